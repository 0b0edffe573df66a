"""From a primal layer to an attention that trains and travels."""

import pytest
import torch

from hf_primaldual import (
    PRESETS,
    PrimalDualAttention,
    PrimalDualConfig,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.modeling.presets_primal_dual import choices_of, name_of
from hf_primaldual.theory import PrimalLayer, derive_attention
from tests.modeling.isolated import run_isolated
from tests.theory.whitening import Whitening

CONFIG = PrimalDualConfig(hidden_size=32, num_attention_heads=4)


@pytest.mark.parametrize("preset", ["linear-bn+sh", "conv2d+bn"])
def test_a_presets_choices_derive_its_attention(preset):
    kernel, transforms, training_set = PRESETS[preset]
    derived = derive_attention(PrimalLayer(kernel, transforms, training_set), CONFIG)
    named = PrimalDualAttention(PrimalDualConfig(attention=preset, hidden_size=32, num_attention_heads=4))
    named.load_state_dict(derived.state_dict())
    hidden_states = torch.randn(2, 11, 32)
    assert torch.equal(derived(hidden_states)[0], named(hidden_states)[0])
    # The caller's configuration is left alone.
    assert CONFIG.attention == "bn+sh"
    assert CONFIG.choices == PRESETS["bn+sh"]


def test_a_name_says_what_the_model_is():
    for name, choices in PRESETS.items():
        assert name_of(choices) == name
    for name in ("conv1d+bn", "my_file.A+sh", "linear-my_file.A+bn+sh", "sparse-my_file.A"):
        assert name_of(choices_of(name)) == name
        assert PrimalDualConfig(attention=name).choices == choices_of(name)
    for name in ("wavelet", "sh+bn", "linear-", "linear-sparse", ""):
        assert choices_of(name) is None
    config = PrimalDualConfig(attention="softmax", transforms=["my_file.A", "bn"], training_set="downsampled")
    assert config.attention == PrimalDualConfig(**config.to_dict()).attention == "my_file.A+bn+sh"
    assert PrimalDualConfig(attention="sh", training_set="all").attention == "softmax"
    primal = PrimalLayer(transforms=(Whitening,), training_set="downsampled")
    assert derive_attention(primal, CONFIG).config.attention == "whitening.Whitening+sh"


def test_a_transform_of_ones_own_is_in_the_output_and_trains_and_batch_normalization_folds_behind_it():
    hidden_states = torch.randn(2, 50, 32)
    chained, layer, plain = (
        derive_attention(PrimalLayer(transforms=transforms, training_set="downsampled"), CONFIG)
        for transforms in ((Whitening, "bn"), (Whitening,), ())
    )
    layer(hidden_states)[0].square().sum().backward()
    assert layer.transforms[0].gain.grad.abs().min() > 0
    for other in (plain, chained):
        other.load_state_dict(layer.state_dict(), strict=False)
        assert not torch.allclose(layer(hidden_states)[0], other(hidden_states)[0], atol=1e-4)
    assert chained.transforms[1].folds


LOADED_TWICE = """
import sys, torch
from transformers import AutoModelForSequenceClassification

expected = torch.load(sys.argv[1] + "/expected.pt")
for folder in (sys.argv[1] + "/whitened", sys.argv[1] + "/again"):
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert torch.equal(model(expected["past_values"]).logits, expected["logits"]), folder
    model.save_pretrained(sys.argv[1] + "/again")
print("loaded twice")
"""


@pytest.mark.processes
def test_a_checkpoint_carries_the_transforms_file_and_loads_elsewhere(tmp_path):
    primal = PrimalLayer(transforms=(Whitening, "bn"), training_set="downsampled")
    config = PrimalDualTimeSeriesConfig(num_channels=2, num_labels=3, max_position_embeddings=16, **primal.fields())
    model = PrimalDualTimeSeriesForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path / "whitened"
    model.save_pretrained(folder)
    past_values = torch.randn(2, 9, 2)
    torch.save({"past_values": past_values, "logits": model(past_values).logits.detach()}, tmp_path / "expected.pt")
    assert "from .batch_norm_primal_dual import" in (folder / "whitening.py").read_text()

    assert "loaded twice" in run_isolated(LOADED_TWICE, tmp_path, tmp_path)


def test_a_softmax_checkpoint_starts_the_transform_where_it_says_and_keeps_its_own_when_it_has_one(tmp_path):
    shape = {"num_channels": 2, "num_labels": 3, "max_position_embeddings": 16}
    plain = PrimalDualTimeSeriesForSequenceClassification(PrimalDualTimeSeriesConfig(attention="softmax", **shape))
    plain.save_pretrained(tmp_path / "plain")
    fields = PrimalLayer(transforms=(Whitening,)).fields()
    converted = PrimalDualTimeSeriesForSequenceClassification.from_pretrained(tmp_path / "plain", **fields)
    gain = converted.model.layers[0].self_attn.transforms[0].gain
    assert torch.equal(gain, torch.ones_like(gain))
    with torch.no_grad():
        gain.fill_(0.5)
    converted.save_pretrained(tmp_path / "converted")
    again = PrimalDualTimeSeriesForSequenceClassification.from_pretrained(tmp_path / "converted")
    assert torch.equal(again.model.layers[0].self_attn.transforms[0].gain, gain)
