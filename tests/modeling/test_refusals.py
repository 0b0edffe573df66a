"""What can't be right is refused with one sentence that names the argument, the value and what would be right."""

import re

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, ViTConfig, ViTForImageClassification

from hf_primaldual import PRESETS, PrimalDualAttention, PrimalDualConfig, PrimalDualViTForImageClassification
from tests.modeling import images, series, texts
from tests.modeling.cases import WIDTH
from tests.modeling.parity import make_layer

GRID = {"attention": "conv2d", "conv2d_reading": "grid"}

# Fields of a layer that contradict each other.
LAYERS = [
    ({"attention": "bnn"}, f"`attention` must be one of {', '.join(PRESETS)}, got 'bnn'"),
    ({"hidden_size": 30}, "`hidden_size` (30) must be a positive multiple of `num_attention_heads` (8)"),
    ({"num_attention_heads": 0}, "must be a positive multiple of `num_attention_heads` (0)"),
    ({"hidden_size": 0}, "`hidden_size` (0) must be a positive multiple"),
    ({"head_scales": [1, 2]}, "`head_scales` must hold one entry for each of the 8 heads, got 2: [1, 2]"),
    ({"head_scales": [1] * 7 + [0]}, "`head_scales` must hold integers of at least 1, got [1, 1, 1, 1, 1, 1, 1, 0]"),
    ({"attention": "bn", "head_scales": [1] * 8}, "`head_scales` is for the presets with sh; `attention='bn'` with"),
    ({"attention": "softmax", "head_points": 4}, "`training_set='all'` downsamples no keys, got 4"),
    ({"training_set": "all", "head_scales": [1] * 8}, "`training_set='all'` downsamples no keys, got [1, 1"),
    ({"head_points": [4] * 9}, "`head_points` must hold one entry for each of the 8 heads, got 9: [4, 4"),
    ({"head_points": 0}, "`head_points` must hold integers of at least 1, got [0, 0"),
    ({"head_points": 3, "head_scales": [1] * 8}, "and `head_points` (3) exclude each other; give one"),
    ({"sampling": "median"}, "`sampling` must be one of average, stride, random, conv, got 'median'"),
    ({"kernel": "cubic"}, "`kernel` must be one of softmax, linear, got 'cubic'"),
    ({"transforms": ["bn", "fft"]}, "`transforms` must be one of bn, conv1d, conv2d, got 'fft'"),
    ({"transforms": ["nowhere.Lost"]}, "`transforms` names 'nowhere.Lost', which is neither"),
    ({"training_set": "half"}, "one of all, downsampled, sparse, sparse+downsampled, got 'half'"),
    ({"attention": "linear", "training_set": "sparse"}, "`kernel='linear'` sums over all keys once for every query"),
    ({"attention": "sparse-sh", "head_points": 4}, "`head_points` (4) gives points without a fixed place"),
    ({"head_points": 4, "sampling": "conv"}, "`sampling='conv'` has a filter of one length for each scale"),
    ({"attention": "sparse", "sparse_pattern": []}, "must name at least one of local, strided, fixed, got none"),
    ({"attention": "sparse", "sparse_pattern": ["rows"]}, "`sparse_pattern` must be one of local, strided, fixed"),
    ({"attention": "sparse", "sparse_window": -1}, "`sparse_window` (-1) must be at least 0"),
    ({"attention": "sparse-bn", "sparse_stride": 0}, "`sparse_stride` (0) at least 1"),
    ({"attention": "conv1d", "conv_kernel_size": 4}, "`conv_kernel_size` must be odd and positive, got 4"),
    ({"attention": "conv2d", "conv_kernel_size": -3}, "`conv_kernel_size` must be odd and positive, got -3"),
    ({"attention": "conv2d", "conv2d_reading": "image"}, "`conv2d_reading` must be one of vector, grid, got 'image'"),
    ({"attention": "conv2d", "hidden_size": 56}, "such as 4, 6, 8, 9, 16, 32 or 64, got 7"),
    (GRID, "needs `grid_size`, the height and width in patches, got None"),
    (GRID | {"grid_size": [2, 3, 4]}, "height and width in patches, both at least 1, got [2, 3, 4]"),
    (GRID | {"grid_size": [0, 3]}, "height and width in patches, both at least 1, got [0, 3]"),
    (GRID | {"grid_size": [2, 3], "num_prefix_tokens": -1}, "`num_prefix_tokens` must be at least 0, got -1"),
    (GRID | {"grid_size": [2, 3], "training_set": "downsampled"}, "which the keys of `training_set='downsampled'` no"),
    ({"bn_eps": 0.0}, "`bn_eps` must be positive and finite, got 0.0"),
    ({"bn_beta": float("inf")}, "`bn_beta` must be a finite number, got inf"),
    ({"bn_scaling": 1.5}, "`bn_scaling` must be true, false or a number from 0 to 1, got 1.5"),
]


@pytest.mark.parametrize(("fields", "message"), LAYERS, ids=str)
def test_a_layer_that_cannot_be(fields, message):
    config = PrimalDualConfig()
    for name, value in fields.items():
        setattr(config, name, value)
    # A layer looks again, as fields may have been set one by one.
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        PrimalDualAttention(config)
    assert re.fullmatch(r"[^\n]+\.", str(error.value))
    if "Lost" not in message:
        with pytest.raises(Exception, match=re.escape(message)):
            PrimalDualConfig(**fields)


MODELS = [
    (series, {"num_channels": 0}, "`num_channels` must be at least 1, got 0"),
    (series, {"num_hidden_layers": 0}, "`num_hidden_layers` must be at least 1, got 0"),
    (series, {"max_position_embeddings": -1}, "`max_position_embeddings` must be at least 1, got -1"),
    (series, {"norm_type": "group"}, "`norm_type` must be one of layer, batch, got 'group'"),
    (series, {"norm_position": "middle"}, "`norm_position` must be one of pre, post, got 'middle'"),
    (series, {"pooling": "max"}, "`pooling` must be one of flatten, mean, got 'max'"),
    (series, {"hidden_size": "64"}, "hidden_size"),
    (series, {"head_scales": [1.5] * 4}, "head_scales"),
    (texts, {"pad_token_id": texts.TOKENS}, "`pad_token_id` must be a token of the vocabulary, 0 to 39"),
    (texts, {"pad_token_id": -1}, "got -1"),
    (texts, {"type_vocab_size": -1}, "`type_vocab_size` must be at least 0, got -1"),
    (texts, {"vocab_size": 0, "pad_token_id": None}, "`vocab_size` must be at least 1, got 0"),
    (texts, {"pooling": "max"}, "`pooling` must be one of mean, cls, last, got 'max'"),
    (images, {"image_size": 4}, "`image_size` (4)"),
    (images, {"patch_size": [2, 3, 4]}, "`patch_size`"),
    (images, {"distillation_head": True}, "`distillation_head=True`"),
    (images, {"pooling": "max"}, "`pooling` must be one of cls, mean, got 'max'"),
    (images, {"drop_path_rate": 1.0}, "`drop_path_rate`"),
]


@pytest.mark.parametrize(("module", "fields", "message"), MODELS)
def test_a_configuration_that_cannot_be(module, fields, message):
    with pytest.raises(Exception, match=re.escape(message)):
        module.small_config(**fields)


def ids(*shape, of=1):
    return torch.full(shape, of, dtype=torch.long)


def value_of(value):
    values = series.series_batch()["past_values"]
    values[1, 12, 2] = value
    return values


def images_of(*shape):
    return {"pixel_values": torch.zeros(shape)}


def keys_below_zero():
    layer = make_layer("linear", feature_map="gelu")
    nn.init.ones_(layer.q_proj.bias), nn.init.constant_(layer.k_proj.bias, -1)
    return layer


TWENTY = {"hidden_states": torch.zeros(2, 20, WIDTH)}
UNMASKED, WIDE = {"attention_mask": None}, {"inputs_embeds": torch.ones(1, 2, 5)}
# What replaces inputs of a batch that is right.
INPUTS = {
    "series": (
        lambda: series.small_model(),
        series.series_batch,
        [
            ({"past_values": value_of(torch.nan)}, "`past_values` must be finite.* nan.* row 1, step 12"),
            ({"past_values": value_of(-torch.inf), **UNMASKED}, "`past_values` must be finite.* -inf.* row 1"),
            (series.series_batch((5, 0, 3, 0)), r"`attention_mask` must keep at least one token .* rows \[1, 3\]"),
            ({"past_values": torch.zeros(4, 0, 3), **UNMASKED}, "`past_values`.* 1 to `max_position.* = 24.* got 0"),
            (series.series_batch((25,), 25), "`max_position_embeddings` = 24.* got 25"),
            ({"past_values": torch.zeros(4, 20, 4)}, r"\(batch, time, channels\).* 3 chan.* \(4, 20, 4\)"),
            ({"past_values": torch.zeros(4, 20)}, r"`past_values`.* \(batch, time, channels\).* \(4, 20\)"),
            ({"attention_mask": torch.ones(4, 19)}, r"`attention_mask`.* \(batch, tokens\) = \(4, 20\).* \(4, 19\)"),
            ({"attention_mask": torch.ones(4, 1, 20)}, r"`attention_mask`.* \(4, 1, 20\)"),
            ({"labels": torch.tensor([0, 1, -1, 2])}, "`labels`.* 0 to 3.* got -1"),
        ],
    ),
    "text": (
        lambda: texts.small_model(type_vocab_size=2, prepend_cls=True),
        dict,
        [
            ({"input_ids": ids(1, 2, of=40)}, r"`input_ids` must lie in 0 to 39 \(`vocab_size` = 40\), got 40"),
            ({"input_ids": ids(1, 2, of=-100)}, "`input_ids` must lie in 0 to 39 .*, got -100"),
            ({"input_ids": ids(1, 65)}, r"1 to `max_position_embeddings` = 64 tokens, got \(1, 65\)"),
            ({"input_ids": ids(2, 0)}, r"`input_ids` must .* 1 to .*, got \(2, 0\)"),
            ({"input_ids": ids(5)}, r"shape \(batch, tokens\) .*, got \(5,\)"),
            ({}, "one of `input_ids` and `inputs_embeds` must be given, got neither"),
            ({"input_ids": ids(1, 2), **WIDE}, "one of `input_ids` and `inputs_embeds` must be given, got both"),
            ({"inputs_embeds": torch.ones(1, 65, 16)}, r"= 64 tokens, got \(1, 65, 16\)"),
            (
                {"input_ids": ids(1, 2), "token_type_ids": ids(1, 2, of=2)},
                "`token_type_ids` .* in 0 to 1 .* got 2",
            ),
            (
                {"input_ids": ids(1, 2), "token_type_ids": ids(1, 1)},
                r"`token_type_ids` .* the shape .* \(1, 1\)",
            ),
            (WIDE, r"\(batch, tokens, 16\) .*, got \(1, 2, 5\)"),
        ],
    ),
    "matching": (
        lambda: texts.small_matcher(),
        texts.document_batch,
        [
            ({"pair_input_ids": None}, "`pair_input_ids` must be given: documents are matched in pairs, got None"),
            ({"pair_input_ids": ids(3, 16), "pair_attention_mask": ids(3, 16)}, "as many documents, got 4 and 3"),
            ({"pair_input_ids": ids(4, 16, of=40)}, "`pair_input_ids` must lie in 0 to 39"),
            ({"pair_attention_mask": ids(4, 16, of=0)}, r"`pair_.* got only padding in rows \[0, 1, 2, 3\]"),
        ],
    ),
    "vit": (
        lambda: images.small_model(),
        dict,
        [
            (images_of(2, 1, 40, 40), r"`pixel_values`.* 3 channels.* \(2, 1, 40, 40\)"),
            (images_of(3, 40, 40), r"`pixel_values`.* \(batch, channels, height, width\)"),
            (images_of(2, 3, 40, 45), r"multiples of `patch_size` \(8, 8\).* \(40, 45\).* resize or pad"),
            (images_of(2, 3, 48, 48) | {"interpolate_pos_encoding": False}, r"\(48, 48\).* \(40, 40\).*=False`"),
        ],
    ),
    "layer": (
        lambda: make_layer("bn+sh"),
        dict,
        [
            ({"hidden_states": torch.zeros(shape)}, rf"\(batch, tokens, {WIDTH}\).* {re.escape(str(shape))}")
            for shape in ((2, WIDTH), (2, 0, WIDTH), (2, 5, WIDTH + 1), (1, 2, 5, WIDTH))
        ],
    ),
    "grid": (
        lambda: make_layer("sparse-bn+sh", grid_size=[4, 4], num_prefix_tokens=1),
        dict,
        [(TWENTY, r"`grid_size` \[4, 4\] with 1 prefix.* 17 tokens, got 20\.$")],
    ),
    "grid of conv2d": (
        lambda: make_layer("conv2d", conv2d_reading="grid", grid_size=[4, 4]),
        dict,
        [(TWENTY, r"`grid_size` \[4, 4\] with 0 prefix.* 16 tokens, got 20\.$")],
    ),
    "queries of gelu": (
        lambda: make_layer("linear", feature_map="gelu"),
        dict,
        [({"hidden_states": torch.randn(2, 20, WIDTH)}, r"`feature_map='gelu'` gave -\d.*must not be negative")],
    ),
    "keys of gelu": (
        keys_below_zero,
        dict,
        [({"hidden_states": torch.zeros(2, 20, WIDTH)}, r"`feature_map='gelu'` gave -0.159; a kernel's")],
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_cannot_be(name):
    make, batch, rows = INPUTS[name]
    model = make()
    for inputs, message in rows:
        with pytest.raises(ValueError, match=message):
            model(**{**batch(), **inputs})


def test_a_feature_map_that_nobody_knows():
    with pytest.raises(ValueError, match=r"`feature_map` must be 'elu\+1' or an activation .*, got 'cosine'"):
        make_layer("linear", feature_map="cosine")
    # Where there is no linear kernel, the field is of no use and not looked at.
    make_layer("softmax", feature_map="cosine")


def test_checkpoints_that_do_not_fit(tmp_path):
    series.small_model().save_pretrained(tmp_path / "series")
    with pytest.raises(Exception, match=r"`attention` must be one of softmax, bn, sh, bn\+sh.*, got 'sparce'"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "series", attention="sparce")
    config = ViTConfig(hidden_size=16, num_attention_heads=4, num_hidden_layers=2, intermediate_size=32)
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match=r"lacks .* weights of .*model\.embeddings\.cls_token.*`hf_primaldual\.conv"):
        PrimalDualViTForImageClassification.from_pretrained(tmp_path / "vit")


def test_an_attribute_that_nobody_could_load_is_not_saved(tmp_path):
    model = texts.small_model()
    # As other programs write into it, and as a name is misspelt.
    model.config.license_of_the_weights, model.config.rms_norm_eps = "mine", 1e-6
    with pytest.raises(TypeError, match=r"`rms_norm_eps`.*norm_eps"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    del model.config.rms_norm_eps
    model.save_pretrained(tmp_path / "saved")
    assert type(model).from_pretrained(tmp_path / "saved").config.license_of_the_weights == "mine"
