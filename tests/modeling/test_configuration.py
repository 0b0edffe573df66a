import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError

from hf_primaldual import PRESETS, PrimalDualAttention, PrimalDualConfig, PrimalDualTimeSeriesConfig
from hf_primaldual.modeling.configuration_primal_dual import doubling_scales
from tests.modeling.cases import DEFAULT_SCALES

# Fields that contradict each other, and what the message has to name: the argument, the value, and what is right.
CONTRADICTIONS = {
    "unknown-preset": ({"attention": "bnn"}, ["`attention`", "'bnn'", *PRESETS]),
    "width": ({"hidden_size": 30, "num_attention_heads": 8}, ["`hidden_size`", "30", "multiple", "8"]),
    "no-heads": ({"num_attention_heads": 0}, ["`num_attention_heads`", "0", "positive"]),
    "scales-too-few": ({"head_scales": [1, 2]}, ["`head_scales`", "8 heads", "[1, 2]"]),
    "scales-zero": ({"head_scales": [1] * 7 + [0]}, ["`head_scales`", "at least 1", "0]"]),
    "scales-negative": ({"head_scales": [-2] + [1] * 7}, ["`head_scales`", "at least 1", "[-2"]),
    "scales-of-softmax": ({"attention": "softmax", "head_scales": [1] * 8}, ["`head_scales`", "softmax", "sh"]),
    "scales-of-bn": ({"attention": "bn", "head_scales": [1] * 8}, ["`head_scales`", "bn", "sh"]),
    "points-of-softmax": ({"attention": "softmax", "head_points": 4}, ["`head_points`", "softmax", "sh", "4"]),
    "points-too-many": ({"head_points": [4] * 9}, ["`head_points`", "8 heads", "9", "[4, 4"]),
    "points-zero": ({"head_points": 0}, ["`head_points`", "at least 1", "0"]),
    "scales-and-points": ({"head_points": 3, "head_scales": [1] * 8}, ["`head_scales`", "`head_points`", "exclude"]),
    "sampling": ({"sampling": "median"}, ["`sampling`", "'median'", "average", "stride"]),
    "kernel": ({"kernel": "cubic"}, ["`kernel`", "'cubic'", "softmax, linear"]),
    "transform": ({"transforms": ["bn", "fft"]}, ["`transforms`", "'fft'", "bn, conv1d, conv2d"]),
    "training-set": ({"training_set": "half"}, ["`training_set`", "'half'", "sparse+downsampled"]),
    "scales-of-linear": ({"attention": "linear", "head_scales": [1] * 8}, ["`head_scales`", "linear", "sh"]),
    "scales-left-over": ({"training_set": "all", "head_scales": [1] * 8}, ["`head_scales`", "`training_set='all'`"]),
    "linear-and-sparse": (
        {"attention": "linear", "training_set": "sparse"},
        ["`kernel='linear'`", "`training_set='sparse'`", "one or the other"],
    ),
    "points-and-sparse": (
        {"attention": "sparse-sh", "head_points": 4},
        ["`head_points` (4)", "`training_set='sparse+downsampled'`", "`head_scales`"],
    ),
    "points-and-conv": ({"head_points": 4, "sampling": "conv"}, ["`sampling='conv'`", "`head_points` (4)", "scale"]),
    "no-pattern": ({"attention": "sparse", "sparse_pattern": []}, ["`sparse_pattern`", "local, strided, fixed"]),
    "pattern": ({"attention": "sparse", "sparse_pattern": ["rows"]}, ["`sparse_pattern`", "'rows'", "strided"]),
    "window": ({"attention": "sparse", "sparse_window": -1}, ["`sparse_window` (-1)", "at least 0", "no key"]),
    "sparse-stride": ({"attention": "sparse-bn", "sparse_stride": 0}, ["`sparse_stride` (0)", "at least 1", "no key"]),
    "filter-even": ({"attention": "conv1d", "conv_kernel_size": 4}, ["`conv_kernel_size`", "odd", "4"]),
    "filter-negative": ({"attention": "conv2d", "conv_kernel_size": -3}, ["`conv_kernel_size`", "positive", "-3"]),
    "reading": ({"attention": "conv2d", "conv2d_reading": "image"}, ["`conv2d_reading`", "'image'", "vector, grid"]),
    "head-width": (
        {"attention": "conv2d", "hidden_size": 56},
        ["`hidden_size / num_attention_heads`", "6, 8, 9, 16, 32 or 64", "got 7"],
    ),
    "no-grid": ({"attention": "conv2d", "conv2d_reading": "grid"}, ["`grid_size`", "height and width", "None"]),
    "grid-of-three": (
        {"attention": "conv2d", "conv2d_reading": "grid", "grid_size": [2, 3, 4]},
        ["`grid_size`", "height and width", "[2, 3, 4]"],
    ),
    "grid-empty": (
        {"attention": "conv2d", "conv2d_reading": "grid", "grid_size": [0, 3]},
        ["`grid_size`", "height and width", "[0, 3]"],
    ),
    "grid-downsampled": (
        {"transforms": ["conv2d"], "conv2d_reading": "grid", "grid_size": [2, 3]},
        ["`conv2d_reading='grid'`", "`training_set='downsampled'`", "'vector'"],
    ),
    "prefix": (
        {"attention": "conv2d", "conv2d_reading": "grid", "grid_size": [2, 3], "num_prefix_tokens": -1},
        ["`num_prefix_tokens`", "at least 0", "-1"],
    ),
    "eps": ({"bn_eps": 0.0}, ["`bn_eps`", "positive", "0.0"]),
}

SERIES_CONTRADICTIONS = {
    "channels": ({"num_channels": 0}, ["`num_channels`", "at least 1", "0"]),
    "layers": ({"num_hidden_layers": 0}, ["`num_hidden_layers`", "at least 1", "0"]),
    "positions": ({"max_position_embeddings": -1}, ["`max_position_embeddings`", "at least 1", "-1"]),
    "norm": ({"norm_type": "group"}, ["`norm_type`", "'group'", "batch", "layer"]),
    "norm-position": ({"norm_position": "middle"}, ["`norm_position`", "'middle'", "post", "pre"]),
    "pooling": ({"pooling": "max"}, ["`pooling`", "'max'", "flatten", "mean"]),
}


def assert_names(message, parts):
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize(("fields", "parts"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictory_fields_are_refused_in_a_sentence(fields, parts):
    with pytest.raises(StrictDataclassClassValidationError) as error:
        PrimalDualConfig(**fields)
    assert_names(str(error.value), parts)
    config = PrimalDualConfig()
    for name, value in fields.items():
        setattr(config, name, value)
    # A layer looks again, as fields may have been set one by one.
    with pytest.raises(ValueError) as error:
        PrimalDualAttention(config)
    message = str(error.value)
    assert_names(message, parts)
    assert message.endswith(".")
    assert "\n" not in message
    assert message.count(". ") == 0


@pytest.mark.parametrize(("fields", "parts"), SERIES_CONTRADICTIONS.values(), ids=SERIES_CONTRADICTIONS)
def test_contradictory_fields_of_the_encoder_are_refused(fields, parts):
    with pytest.raises(StrictDataclassClassValidationError) as error:
        PrimalDualTimeSeriesConfig(**fields)
    assert_names(str(error.value), parts)


@pytest.mark.parametrize(
    ("name", "value"),
    [("head_scales", [1.5] * 8), ("hidden_size", "64"), ("bn_beta", "one"), ("head_points", 2.5), ("attention", None)],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        PrimalDualConfig(**{name: value})


@pytest.mark.parametrize(("heads", "scales"), DEFAULT_SCALES.items())
def test_default_scales_double_after_every_two_heads(heads, scales):
    assert doubling_scales(heads) == scales
    config = PrimalDualConfig(num_attention_heads=heads, hidden_size=heads)
    assert config.head_scales is None
    assert config.resolved_head_scales() == scales
    assert config.resolved_head_points() is None


def test_points_replace_scales():
    config = PrimalDualConfig(head_points=5, num_attention_heads=4)
    assert config.resolved_head_points() == [5] * 4
    assert config.resolved_head_scales() is None
    assert PrimalDualConfig(head_points=[1, 2, 3, 4], num_attention_heads=4).resolved_head_points() == [1, 2, 3, 4]


def test_defaults_are_those_of_the_paper():
    config = PrimalDualConfig()
    assert config.attention == "bn+sh"
    assert config.resolved_head_scales() == [1, 1, 2, 2, 4, 4, 8, 8]
    assert (config.bn_beta, config.bn_scaling, config.bn_eps, config.sampling) == (1.0, True, 1e-5, "average")


def test_each_field_replaces_one_choice():
    config = PrimalDualConfig(attention="linear", transforms=["conv1d", "bn"], training_set="downsampled")
    assert config.choices == ("linear", ("conv1d", "bn"), "downsampled")
    assert PrimalDualConfig(attention="conv2d+bn", transforms=[]).choices == PRESETS["softmax"]
    assert PrimalDualConfig(attention="bn+sh", kernel="linear").choices == PRESETS["linear-bn+sh"]
    assert PrimalDualConfig(attention="bn", training_set="sparse").choices == PRESETS["sparse-bn"]


@pytest.mark.parametrize(
    "config",
    [
        PrimalDualConfig(head_points=[1, 2, 3, 4], num_attention_heads=4, bn_beta=0.5, bn_beta_learnable=True),
        PrimalDualConfig(attention="sparse-sh", sparse_pattern=["fixed", "local"], sparse_window=9, sampling="random"),
        PrimalDualTimeSeriesConfig(num_channels=12, max_position_embeddings=29, norm_type="layer", num_labels=9),
    ],
    ids=["points", "sparse", "series"],
)
def test_a_configuration_survives_saving(tmp_path, config):
    config.save_pretrained(tmp_path)
    loaded = type(config).from_pretrained(tmp_path)
    saved, again = config.to_dict(), loaded.to_dict()
    # What says where the code lies is added when saving.
    for fields in (saved, again):
        fields.pop("auto_map", None)
        fields.pop("_name_or_path", None)
    assert again == saved


def test_a_saved_configuration_names_its_pipeline_and_classes(tmp_path):
    PrimalDualTimeSeriesConfig().save_pretrained(tmp_path)
    loaded = PrimalDualTimeSeriesConfig.from_pretrained(tmp_path)
    pipeline = loaded.custom_pipelines["time-series-classification"]
    assert pipeline["impl"] == "pipeline_primal_dual.TimeSeriesClassificationPipeline"
    assert loaded.auto_map["AutoConfig"] == "configuration_primal_dual_models.PrimalDualTimeSeriesConfig"
