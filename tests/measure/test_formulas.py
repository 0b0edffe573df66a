"""Closed formulas against what is counted and measured, for every preset."""

import pytest
import torch

from hf_primaldual import (
    PrimalDualAttention,
    PrimalDualConfig,
    PrimalDualTextConfig,
    PrimalDualTextForSequenceClassification,
)
from hf_primaldual.measure import (
    activation_memory,
    attention_flops,
    count_flops,
    peak_memory,
    text_model_activation_bytes,
    text_model_flops,
    text_model_peak_bytes,
)
from hf_primaldual.modeling import memory_primal_dual
from hf_primaldual.modeling.configuration_primal_dual import PRESETS

WIDTH, HEADS = 32, 8


def layer_of(attention, implementation="sdpa", **fields):
    config = PrimalDualConfig(attention=attention, hidden_size=WIDTH, num_attention_heads=HEADS, **fields)
    config._attn_implementation = implementation
    return PrimalDualAttention(config)


def compare(layer, tokens, batch=1, implementation="sdpa"):
    hidden_states = torch.randn(batch, tokens, WIDTH, requires_grad=True)
    formula = attention_flops(layer.config, tokens, batch, implementation)
    assert count_flops(layer, hidden_states) == formula.forward
    assert count_flops(layer, hidden_states, backward=True) == formula.training


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("attention", PRESETS)
def test_every_preset_counts_what_its_formula_says(attention, implementation):
    compare(layer_of(attention, implementation), 300, batch=2, implementation=implementation)


FIELDS = {
    "points": {"attention": "bn+sh", "head_points": [5, 5, 9, 9, 40, 40, 70, 70]},
    "scattered factors": {"attention": "sh", "head_scales": [1, 3, 1, 3, 7, 1, 100, 7]},
    "grid": {"attention": "sh", "grid_size": [7, 9], "num_prefix_tokens": 2},
    "prefix": {"attention": "linear-sh", "num_prefix_tokens": 1},
    "local": {"attention": "sparse-sh", "sparse_pattern": ["local"], "sparse_window": 10},
    "fixed": {"attention": "sparse-bn+sh", "sparse_pattern": ["fixed"], "sparse_stride": 12},
    "narrow union": {"attention": "sparse", "sparse_pattern": ["local", "strided", "fixed"], "sparse_stride": 4},
    "wide stride": {"attention": "sparse-sh", "sparse_stride": 1000, "sparse_window": 1000},
    "wide filters": {"attention": "conv1d", "conv_kernel_size": 5},
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_factors_windows_and_filters_are_in_the_formula(fields):
    compare(layer_of(**fields), 65)


def text_model(attention, tokens, batch, implementation="sdpa"):
    config = PrimalDualTextConfig(
        attention=attention,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        hidden_dropout_prob=0.0,
        num_labels=5,
        max_position_embeddings=tokens,
        attn_implementation=implementation,
    )
    inputs = {"input_ids": torch.randint(1, 300, (batch, tokens)), "labels": torch.arange(batch)}
    return PrimalDualTextForSequenceClassification(config), inputs


@pytest.mark.parametrize("attention", ["softmax", "bn+sh", "linear-bn", "sparse-sh"])
def test_a_whole_text_model_counts_what_its_formula_says(attention):
    model, inputs = text_model(attention, tokens=130, batch=2)
    formula = text_model_flops(model.config, 130, batch=2)
    assert count_flops(model, **inputs) == formula.forward
    assert count_flops(model, **inputs, backward=True) == formula.training


@pytest.mark.parametrize("long", [256, 257], ids=["long", "short"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("attention", PRESETS)
def test_the_memory_of_every_preset_is_what_its_formula_says(attention, implementation, batch, long, monkeypatch):
    monkeypatch.setattr(memory_primal_dual, "LONG", long)
    model, inputs = text_model(attention, 256, batch, implementation)
    if "sparse" in attention and implementation == "eager":
        with pytest.raises(NotImplementedError, match="flash kernel"):
            text_model_activation_bytes(model.config, 256, batch, implementation)
        return
    kept = text_model_activation_bytes(model.config, 256, batch, implementation)
    assert kept == pytest.approx(activation_memory(model, lambda: model(**inputs)), rel=0.02)
    if "sparse" in attention:
        with pytest.raises(NotImplementedError, match="no peak of sparse attention"):
            text_model_peak_bytes(model.config, 256, batch, implementation)
        return
    model.zero_grad(set_to_none=True)
    peak = text_model_peak_bytes(model.config, 256, batch, implementation)
    assert peak == pytest.approx(peak_memory(lambda: model(**inputs).loss.backward()), rel=0.03)


def test_the_memory_formulas_refuse_dropout():
    with pytest.raises(NotImplementedError, match=r"without dropout, got 'layer', 0\.1"):
        text_model_peak_bytes(PrimalDualTextConfig(attention="softmax"), 64)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"attention": "sh", "sampling": "conv"}, "'conv'"),
        ({"attention": "sh", "head_points": 4, "grid_size": [4, 4]}, "grid_size"),
        ({"attention": "sparse", "num_prefix_tokens": 1}, "prefix"),
        ({"attention": "conv2d", "conv2d_reading": "grid", "grid_size": [4, 4]}, "'conv2d'"),
        ({"attention": "bn", "transforms": ["whitening.Whitening"]}, "whitening.Whitening"),
    ],
)
def test_what_the_formulas_do_not_know_is_named(fields, named):
    with pytest.raises(NotImplementedError, match=named):
        attention_flops(PrimalDualConfig(hidden_size=WIDTH, num_attention_heads=2, **fields), 17)
