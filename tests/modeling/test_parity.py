"""The contract of every preset: output and all gradients equal the formulas at every padding, length and dtype."""

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_primaldual import PRESETS, PrimalDualConfig
from hf_primaldual.modeling import batch_norm_primal_dual, memory_primal_dual, short_primal_dual
from tests.modeling.cases import EACH_CHOICE, PRESET_CASES, all_settings, choices_of, right_padding, uses
from tests.modeling.parity import (
    compare,
    layer_results,
    make_cotangent,
    make_input,
    make_layer,
    reference_results,
    relative_errors,
)

# The relative error of a rounding.
HALF = {torch.bfloat16: 2**-8, torch.float16: 2**-11}

presets = pytest.mark.parametrize("preset", PRESET_CASES)
dtypes = pytest.mark.parametrize("dtype", HALF, ids=["bfloat16", "float16"])


@presets
def test_every_preset_is_tested_and_has_its_three_choices(preset):
    assert PRESET_CASES.keys() == PRESETS.keys()
    assert PRESETS[preset] == choices_of(preset)
    assert PrimalDualConfig(attention=preset, transforms=[]).choices.transforms == ()


# Not eager: it takes the softmax in float32, as eager attention does throughout transformers.
@pytest.mark.parametrize(("preset", "fields"), all_settings())
def test_every_setting_equals_the_formulas(preset, fields):
    compare(make_layer(preset, **fields).double(), "holes", 3, 63)


@pytest.mark.parametrize(
    ("mask_kind", "tokens"), [("unmasked", 1), ("right", 2), ("unmasked", 20), ("left", 21)], ids=str
)
@presets
def test_every_length_and_padding_equals_the_formulas(preset, mask_kind, tokens):
    compare(make_layer(preset).double(), mask_kind, 3, tokens)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@presets
def test_float32_equals_the_formulas(preset, implementation):
    # Where a head has few keys their variance can be tiny, and dividing by it multiplies the rounding errors, those of
    # the formulas too: float32 is compared at this `bn_eps`, and the default one in float64.
    compare(make_layer(preset, implementation, bn_eps=0.1), "right", 3, 63, 3e-5)


@pytest.mark.parametrize("preset", ["sh", "linear-bn+sh", "sparse", "sparse-sh"])
def test_a_thousand_tokens_equal_the_formulas(preset, monkeypatch):
    # The default window and stride of sparse attention, and what the backward computes again.
    monkeypatch.setattr(memory_primal_dual, "LONG", 1)
    compare(make_layer(preset).double(), "right", 2, 600)


# Where another way is taken than on the few tokens of these tests.
SWITCHES = {
    "group by group": (short_primal_dual, "SHORT", {}),
    "many numbers": (batch_norm_primal_dual, "FEW", 0),
    "long": (memory_primal_dual, "LONG", 1),
}


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(
    ("preset", "fields"), [case for case in all_settings() if case.values[0] in ("bn", "sh", "bn+sh")]
)
def test_each_way_equals_the_formulas(preset, fields, switch, monkeypatch):
    for each in ("group by group", switch):
        monkeypatch.setattr(*SWITCHES[each])
    compare(make_layer(preset, **fields).double(), "holes", 3, 63)


@pytest.mark.parametrize(
    ("tokens", "change", "calls"), [(20, None, 1), (80, None, 3), (20, "hook", 3), (20, "maps", 0)]
)
def test_few_tokens_are_one_call_of_the_back_end(tokens, change, calls, monkeypatch):
    sdpa, seen = ALL_ATTENTION_FUNCTIONS["sdpa"], []
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", lambda *args, **kw: seen.append(args) or sdpa(*args, **kw))
    layer = make_layer("bn+sh", head_scales=[1, 2, 2, 4])
    if change == "hook":
        layer.transforms[0].register_forward_hook(lambda *_: None)
    layer(make_input(None, 3, tokens), output_attentions=change == "maps")
    assert len(seen) == calls


@pytest.mark.parametrize("heads", [1, 6])
@pytest.mark.parametrize("preset", ["bn+sh", "conv2d+bn"])
def test_other_numbers_of_heads_equal_the_formulas(preset, heads):
    # A width with which a head has a two-dimensional shape.
    compare(make_layer(preset, heads=heads, width=48).double(), "right", 2, 21)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("only", [{"head_scales": [2000] * 4}, {"head_points": 1}], ids=["scale", "points"])
def test_gradients_of_heads_with_one_key_at_the_default_eps(only, implementation):
    # Their variance is zero, and 1 / eps = 1e5 multiplies what a fused back-end's backward leaves of zero.
    compare(make_layer("bn+sh", implementation, **only), "right", 3, 63, 3e-5)


@pytest.mark.parametrize("preset", ["bn", "bn+sh", "linear-bn+sh", "sparse-bn"])
def test_rounding_is_that_of_the_formulas_where_keys_are_far_from_zero(preset):
    layer = make_layer(preset)
    with torch.no_grad():
        layer.k_proj.bias.add_(30)
    hidden_states = make_input(None, 4, 63)
    cotangent = make_cotangent(None, hidden_states)
    exact, rounded = (
        reference_results(layer, hidden_states, None, cotangent, dtype=dtype)
        for dtype in (torch.float64, torch.float32)
    )
    actual = layer_results(layer, hidden_states, None, cotangent)
    # The same roundings in another order. A variance from squares, or keys that are not centred, would round 30^2
    # times as much.
    assert relative_errors(actual, exact)["output"] <= 20 * relative_errors(rounded, exact)["output"]


@dtypes
@pytest.mark.parametrize(
    ("preset", "implementation", "autocast"),
    [pytest.param(preset, "sdpa", False, id=preset) for preset in PRESET_CASES]
    + [pytest.param(preset, "eager", False, id=f"{preset}-eager") for preset in ("bn+sh", "sparse-bn+sh")]
    + [pytest.param(preset, "sdpa", True, id=f"{preset}-autocast") for preset in EACH_CHOICE],
)
def test_half_precision_at_the_defaults(preset, implementation, autocast, dtype):
    layer, mask = make_layer(preset, implementation), right_padding(3, 63)
    # Statistics of a handful of keys are as uncertain as the keys are rounded.
    mask[:, :20] = True
    hidden_states = make_input(mask, 3, 63)
    cotangent = make_cotangent(mask, hidden_states)
    if not autocast:
        # The formulas are told of the rounded weights and inputs: what remains are the roundings on the way.
        layer, hidden_states, cotangent = (each.to(dtype) for each in (layer, hidden_states, cotangent))
    with torch.autocast(hidden_states.device.type, dtype, enabled=autocast):
        actual = layer_results(layer, hidden_states, mask, cotangent)
    errors = relative_errors(actual, reference_results(layer, hidden_states, mask, cotangent))
    # Queries, keys, folded queries, logits or maps, values and outputs are rounded in turn; a backward adds as many
    # again, and gradients with respect to keys are differences of close numbers.
    assert errors.pop("output") <= 6 * HALF[dtype]
    # The linear kernel divides by a sum that may be small, of features that rounded queries and keys go into.
    assert max(errors.values()) <= (32 if uses("linear", preset) else 24) * HALF[dtype], errors


@dtypes
@presets
def test_half_precision_of_few_keys_is_finite(preset, dtype):
    layers = [make_layer(preset, implementation).to(dtype) for implementation in ("eager", "sdpa")]
    for tokens in (1, 3, 7):
        mask = torch.arange(tokens) < torch.tensor([[tokens], [1], [-(-tokens // 2)]])
        hidden_states = make_input(mask, 3, tokens).to(dtype)
        for layer in layers:
            actual = layer_results(layer, hidden_states, mask, make_cotangent(mask, hidden_states))
            assert not [name for name, value in actual.items() if not value.isfinite().all()]


@presets
def test_what_padding_puts_out_is_finite(preset):
    # A padded query may be far from every real key.
    for implementation in ("eager", "sdpa"):
        layer, mask = make_layer(preset, implementation), torch.arange(40) < torch.tensor([[40], [3]])
        hidden_states = make_input(mask, 2, 40).requires_grad_()
        output, _ = layer(hidden_states, mask)
        (gradient,) = torch.autograd.grad(output.square().sum(), hidden_states)
        assert output.isfinite().all()
        assert gradient.isfinite().all()
