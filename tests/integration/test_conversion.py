"""Checkpoints of transformers as ours, which start as what a preset is added to."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from hf_primaldual import calibrate, convert

SIZES = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 16,
    # Large enough for attention to be far from uniform.
    "initializer_range": 0.3,
}
IMAGES = {"image_size": 32, "patch_size": 8, "num_labels": 5, **SIZES}
TEXTS = {"vocab_size": 30, "max_position_embeddings": 40, "num_labels": 3, **SIZES}
DINOV2 = {**IMAGES, "layerscale_value": 0.5}
WITH_TEACHER = {"architectures": ["DeiTForImageClassificationWithTeacher"]}

ORIGINALS = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**IMAGES)),
    "vit-encoder": lambda: ViTModel(ViTConfig(**IMAGES)),
    "vit-without-bias": lambda: ViTForImageClassification(ViTConfig(**IMAGES, qkv_bias=False)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**IMAGES)),
    "deit-with-teacher": lambda: DeiTForImageClassificationWithTeacher(DeiTConfig(**IMAGES, **WITH_TEACHER)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**DINOV2)),
    "bert": lambda: BertForSequenceClassification(BertConfig(**TEXTS)),
    "bert-encoder": lambda: BertModel(BertConfig(**TEXTS)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**TEXTS)),
    "xlm-roberta": lambda: XLMRobertaForSequenceClassification(XLMRobertaConfig(**TEXTS)),
}
IMAGE_MODELS = [name for name in ORIGINALS if name.startswith(("vit", "deit", "dinov2"))]
every_original = pytest.mark.parametrize("name", ORIGINALS)


def original(name):
    model = ORIGINALS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def inputs_for(name):
    if name in IMAGE_MODELS:
        return {"pixel_values": torch.randn(2, 3, 32, 32)}
    mask = torch.arange(20) < torch.tensor([[20], [13]])
    padding = 0 if name.startswith("bert") else 1
    return {"input_ids": torch.randint(3, 30, (2, 20)).masked_fill(~mask, padding), "attention_mask": mask.long()}


@torch.no_grad()
def assert_equal_outputs(ours, theirs, inputs):
    actual, expected = ours(**inputs), theirs(**inputs)
    key = "logits" if "logits" in expected else "last_hidden_state"
    actual, expected = actual[key], expected[key]
    if key == "last_hidden_state" and "attention_mask" in inputs:
        actual, expected = (states[inputs["attention_mask"].bool()] for states in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@every_original
def test_what_is_learned_starts_where_it_changes_nothing(name):
    theirs = original(name)
    # What differs by the preset does not by the model.
    others = ("softmax", "conv1d", "conv2d+bn") if name in ("vit", "bert") else ()
    for attention in ("bn", *others):
        assert_equal_outputs(convert(theirs, attention), theirs, inputs_for(name))
    assert_equal_outputs(convert(theirs, "bn+sh", head_scales=[1] * 4), theirs, inputs_for(name))
    if name == "bert-encoder":
        assert convert(theirs, "bn+sh", num_labels=7, pooling="mean")(**inputs_for(name)).logits.shape == (2, 7)


def test_positions_are_interpolated_to_other_images():
    theirs = original("dinov2")
    at_once = convert(theirs, "bn", image_size=[40, 56])
    assert at_once.embeddings.position_embeddings.shape[1] == 1 + 5 * 7
    for height, width in ((40, 56), (56, 40), (16, 16)):
        inputs = {"pixel_values": torch.randn(2, 3, height, width)}
        assert_equal_outputs(convert(theirs, "bn"), theirs, inputs)
        if (height, width) == (40, 56):
            assert_equal_outputs(at_once, theirs, inputs)
    assert convert(Dinov2ForImageClassification(theirs.config), num_labels=4)(**inputs).logits.shape == (2, 4)


ADDED_TO = {"linear-bn+sh": ("linear-sh", {}), "sparse-bn": ("sparse", {}), "bn+sh": ("sh", {"sampling": "conv"})}


@pytest.mark.parametrize("attention", ADDED_TO)
def test_batch_normalization_starts_as_what_it_is_added_to(attention):
    theirs, (without, fields) = original("bert"), ADDED_TO[attention]
    assert_equal_outputs(convert(theirs, attention, **fields), convert(theirs, without), inputs_for("bert"))


@pytest.mark.parametrize("attention", ["bn", "bn+sh", "linear-bn"])
def test_beta_and_the_power_of_the_deviation_learn_from_zero(attention):
    model = convert(original("bert"), attention).train()
    model(**inputs_for("bert"), labels=torch.tensor([0, 2])).loss.backward()
    learned = {name: weight for name, weight in model.named_parameters() if "transforms" in name}
    assert sorted(name.rpartition(".")[2] for name in learned) == ["beta"] * 2 + ["scaling"] * 2
    assert all(weight.eq(0).all() and weight.grad.ne(0).all() for weight in learned.values())


def test_a_beta_or_scaling_that_is_given_is_kept():
    for fields in ({"bn_beta": 0.5}, {"bn_scaling": False}, {"bn_beta_learnable": True}):
        config = convert(original("bert"), "bn", **fields).config
        assert (config.bn_beta, config.bn_scaling) == (fields.get("bn_beta", 1.0), fields.get("bn_scaling", True))
        assert (config.bn_beta_learnable, config.bn_scaling_learnable) == ("bn_beta_learnable" in fields, False)


V4_NAMES = {
    r"\blayers\.": "encoder.layer.",
    r"attention\.([qkv])_proj": lambda match: (
        "attention.attention." + {"q": "query", "k": "key", "v": "value"}[match[1]]
    ),
    r"attention\.o_proj": "attention.output.dense",
    r"mlp\.fc1": "intermediate.dense",
    r"mlp\.fc2": "output.dense",
}


@pytest.mark.parametrize("name", ["vit-encoder", "vit", "deit-with-teacher", "bert", "roberta"])
def test_a_folder_is_converted_and_one_of_transformers_4(tmp_path, name):
    theirs, inputs = original(name), inputs_for(name)
    theirs.save_pretrained(tmp_path)
    assert_equal_outputs(convert(tmp_path, "bn"), theirs, inputs)
    if name not in ("vit", "deit-with-teacher"):
        return
    weights = {}
    for key, weight in load_file(tmp_path / "model.safetensors").items():
        for pattern, replacement in V4_NAMES.items():
            key = re.sub(pattern, replacement, key)
        weights[key] = weight
    assert any("encoder.layer.0.attention.attention.query.weight" in key for key in weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_equal_outputs(convert(tmp_path, "softmax"), theirs, inputs)


def with_extra():
    theirs = original("vit")
    theirs.vit.layers[0].extra = torch.nn.Linear(2, 2)
    return theirs


REFUSED = {
    "architecture": (lambda: convert(ElectraModel(ElectraConfig(**TEXTS))), ["'electra'", "vit, deit, dinov2, bert"]),
    "head": (lambda: convert(BertForTokenClassification(BertConfig(**TEXTS))), ["BertForTokenClassification"]),
    "head-of-two-parts": (
        lambda: convert(Dinov2ForImageClassification(Dinov2Config(**DINOV2))),
        ["Dinov2ForImageClassification", "`num_labels`"],
    ),
    "decoder": (lambda: convert(BertModel(BertConfig(**TEXTS, is_decoder=True))), ["decoder"]),
    "typo": (lambda: convert(original("bert"), "bn-sh"), ["`attention`", "bn+sh", "'bn-sh'"]),
    "weights": (lambda: convert(with_extra()), ["extra"]),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call, message):
    with pytest.raises(Exception, match=r"\w") as error:
        call()
    assert isinstance(error.value, ValueError) or "ValueError" in str(error.value)
    assert all(part in str(error.value) for part in message), error.value


def test_a_head_that_is_left_behind_is_not_calibrated_for():
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_attention_heads=4, num_hidden_layers=2, intermediate_size=16
    )
    model, batches = BertForMaskedLM(config).eval(), [{"input_ids": torch.arange(20).unsqueeze(0)}]
    found = calibrate(model.bert, batches, 0.5)
    converted = convert(model, "bn+sh", budget=0.5, calibration=batches)
    assert converted.config.head_scales == found.head_scales
    assert converted.config.bn_scaling_learnable
