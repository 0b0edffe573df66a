"""From a primal layer to an attention that trains and travels."""

import textwrap

import pytest
import torch

from hf_primaldual import (
    PRESETS,
    PrimalDualAttention,
    PrimalDualConfig,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesForSequenceClassification,
)
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


def test_a_transform_of_ones_own_is_in_the_output_and_trains():
    layer = derive_attention(PrimalLayer(transforms=(Whitening,), training_set="downsampled"), CONFIG)
    hidden_states = torch.randn(2, 11, 32)
    layer(hidden_states)[0].square().sum().backward()
    assert layer.transforms[0].gain.grad.abs().min() > 0
    plain = derive_attention(PrimalLayer(training_set="downsampled"), CONFIG)
    plain.load_state_dict(layer.state_dict(), strict=False)
    assert not torch.allclose(layer(hidden_states)[0], plain(hidden_states)[0], atol=1e-3)


def test_batch_normalization_still_folds_behind_it():
    chained = derive_attention(PrimalLayer(transforms=(Whitening, "bn")), CONFIG)
    # Keys of variance one are what batch normalization makes of them: only the recentring is left to see.
    recentred = derive_attention(PrimalLayer(transforms=(Whitening,)), CONFIG)
    recentred.load_state_dict(chained.state_dict(), strict=False)
    hidden_states = torch.randn(2, 50, 32)
    keys = chained.k_proj(hidden_states)
    _, transformed = chained.transforms[0](keys, keys, None, None, list(range(4)), None)
    torch.testing.assert_close(transformed.var(dim=1, correction=0), torch.ones(2, 32), atol=1e-2, rtol=0)
    assert not torch.allclose(chained(hidden_states)[0], recentred(hidden_states)[0], atol=1e-4)


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
    assert "from .transforms_primal_dual import" in (folder / "whitening.py").read_text()

    script = textwrap.dedent(
        f"""
        import torch
        from transformers import AutoModelForSequenceClassification

        expected = torch.load({str(tmp_path / "expected.pt")!r})
        for folder in ({str(folder)!r}, {str(tmp_path / "again")!r}):
            model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
            assert torch.equal(model(expected["past_values"]).logits, expected["logits"]), folder
            model.save_pretrained({str(tmp_path / "again")!r})
        print("loaded twice")
        """
    )
    assert "loaded twice" in run_isolated(script, tmp_path)


def test_a_transform_that_nobody_registered_and_another_class_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match=r"'nowhere\.Lost'.*PrimalLayer"):
        PrimalDualAttention(PrimalDualConfig(transforms=["nowhere.Lost"]))
    PrimalLayer(transforms=(Whitening,)).fields()
    impostor = type("Whitening", (torch.nn.Module,), {"__module__": "elsewhere.whitening"})
    with pytest.raises(ValueError, match=r"another class named 'whitening\.Whitening'"):
        PrimalLayer(transforms=(impostor,)).fields()


def test_a_transform_of_the_running_program_cannot_be_saved_and_nothing_is_written(tmp_path):
    homeless = type("Homeless", (Whitening,), {"__module__": "__main__"})
    fields = PrimalLayer(transforms=(homeless,)).fields()
    model = PrimalDualTimeSeriesForSequenceClassification(PrimalDualTimeSeriesConfig(**fields))
    with pytest.raises(ValueError, match="file of its own"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


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
