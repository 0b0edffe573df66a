"""The layer against the formulas: output and the gradient of every input."""

import pytest
import torch

from hf_primaldual import PRESETS
from tests.modeling.cases import DEFAULT_SCALES, MASKS, PRESET_CASES, all_settings, settings_by_back_end, uses
from tests.modeling.parity import (
    assert_parity,
    layer_results,
    make_cotangent,
    make_input,
    make_layer,
    reference_results,
    relative_errors,
)

# Where a head has few keys their variance can be tiny. Dividing by it multiplies the rounding errors of float32, those
# of the formulas too, beyond 3e-5; float32 is therefore compared at this `bn_eps`, and the default one in float64.
WELL_CONDITIONED = {"bn_eps": 0.1}
# The relative error of a rounding.
HALF = {torch.bfloat16: 2**-8, torch.float16: 2**-11}

back_ends = pytest.mark.parametrize("implementation", ["eager", "sdpa"])
masks = pytest.mark.parametrize("mask_kind", MASKS)
# With eager those that differ by more than a number; all of them with the slow tests.
DAILY_IDS = {param.id for param in settings_by_back_end(eager_for=("default", "learned", "scattered", "ragged"))}


def compare(layer, mask, batch, tokens, tolerance):
    hidden_states = make_input(mask, batch, tokens, layer.config.hidden_size).to(layer.q_proj.weight.dtype)
    cotangent = make_cotangent(mask, hidden_states)
    actual = layer_results(layer, hidden_states, mask, cotangent)
    assert_parity(actual, reference_results(layer, hidden_states, mask, cotangent), tolerance)


def test_every_preset_is_tested():
    assert PRESET_CASES.keys() == PRESETS.keys()


@pytest.mark.parametrize("tokens", [1, 7, 63])
@masks
@pytest.mark.parametrize(
    ("preset", "fields", "implementation"),
    [
        pytest.param(*param.values, id=param.id, marks=() if param.id in DAILY_IDS else pytest.mark.slow)
        for param in settings_by_back_end()
    ],
)
def test_output_and_gradients_equal_the_formulas(preset, fields, implementation, mask_kind, tokens):
    layer = make_layer(preset, implementation, **WELL_CONDITIONED, **fields)
    compare(layer, MASKS[mask_kind](3, tokens), 3, tokens, 3e-5)


@masks
@pytest.mark.parametrize(
    ("preset", "fields", "implementation"),
    [
        pytest.param(*param.values, id=param.id, marks=() if param.id.endswith("default-sdpa") else pytest.mark.slow)
        for param in settings_by_back_end("default", "scattered", "scattered-learned", "local")
    ],
)
def test_output_and_gradients_at_1000_tokens(preset, fields, implementation, mask_kind):
    layer = make_layer(preset, implementation, **fields)
    mask = MASKS[mask_kind](2, 1000)
    if mask_kind == "padded":
        mask[1] = torch.arange(1000) < 611
    compare(layer, mask, 2, 1000, 3e-5)


@pytest.mark.parametrize("tokens", [1, pytest.param(7, marks=pytest.mark.slow), 63])
@masks
@pytest.mark.parametrize(("preset", "fields"), all_settings())
def test_float64_equals_the_formulas_at_the_default_eps(preset, fields, mask_kind, tokens):
    # Not eager: it takes the softmax in float32, as eager attention does throughout transformers.
    layer = make_layer(preset, "sdpa", **fields).double()
    compare(layer, MASKS[mask_kind](3, tokens), 3, tokens, 1e-10)


@pytest.mark.parametrize("heads", DEFAULT_SCALES)
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_default_scales_for_other_numbers_of_heads(preset, heads):
    # A width with which a head of any of these numbers has a two-dimensional shape.
    layer = make_layer(preset, heads=heads, width=48, **WELL_CONDITIONED)
    compare(layer, MASKS["padded"](2, 21), 2, 21, 3e-5)


@back_ends
@pytest.mark.parametrize("mask_kind", ["unmasked", "padded"])
@pytest.mark.parametrize("only", [{"head_scales": [2000] * 4}, {"head_points": 1}], ids=["scale", "points"])
def test_gradients_of_heads_with_one_key_at_the_default_eps(only, mask_kind, implementation):
    # Their variance is zero, and 1 / eps = 1e5 multiplies what a fused back-end's backward leaves of zero.
    layer = make_layer("bn+sh", implementation, **only)
    compare(layer, MASKS[mask_kind](3, 63), 3, 63, 3e-5)


@back_ends
@pytest.mark.parametrize("preset", [preset for preset in PRESET_CASES if uses("bn", preset)])
def test_rounding_is_that_of_the_formulas_where_keys_are_far_from_zero(preset, implementation):
    layer = make_layer(preset, implementation)
    with torch.no_grad():
        layer.k_proj.bias.add_(30)
    errors = {"layer": [], "formulas": []}
    for _ in range(4):
        hidden_states = make_input(None, 2, 63)
        cotangent = make_cotangent(None, hidden_states)
        exact = reference_results(layer, hidden_states, None, cotangent)
        rounded = reference_results(layer, hidden_states, None, cotangent, dtype=torch.float32)
        actual = layer_results(layer, hidden_states, None, cotangent)
        errors["layer"].append(relative_errors(actual, exact)["output"])
        errors["formulas"].append(relative_errors(rounded, exact)["output"])
    # The same roundings in another order: up to 2.4 times has been seen. A variance from squares, or keys that are not
    # centred, would round 30^2 times as much.
    assert max(errors["layer"]) <= 20 * max(errors["formulas"]), errors


@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize("dtype", HALF, ids=["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("preset", "fields", "implementation", "mask_kind"),
    [
        pytest.param(*param.values, kind, id=f"{param.id}-{kind}", marks=() if daily else pytest.mark.slow)
        for param in settings_by_back_end(eager_for=("default", "learned", "scattered"))
        for kind in MASKS
        for daily in [kind == "padded" and "-default-" in param.id]
    ],
)
def test_half_precision(preset, fields, implementation, mask_kind, dtype, autocast):
    layer = make_layer(preset, implementation, **fields)
    mask = MASKS[mask_kind](3, 63)
    if mask_kind == "padded":
        # Statistics of a handful of keys are as uncertain as the keys are rounded: there only NaN would be a fault.
        mask[:, :20] = True
    hidden_states = make_input(mask, 3, 63)
    cotangent = make_cotangent(mask, hidden_states)
    if not autocast:
        # The formulas are told of the rounded weights and inputs: what remains are the roundings on the way.
        layer, hidden_states, cotangent = (each.to(dtype) for each in (layer, hidden_states, cotangent))
    with torch.autocast("cpu", dtype, enabled=autocast):
        actual = layer_results(layer, hidden_states, mask, cotangent)
    assert all(value.isfinite().all() for value in actual.values())
    errors = relative_errors(actual, reference_results(layer, hidden_states, mask, cotangent))
    # Queries, keys, folded queries, logits or maps, values and outputs are rounded in turn; a backward adds as many
    # again, and gradients with respect to keys are differences of close numbers.
    # The deviation of two or three keys that happen to be close is as uncertain as the keys are rounded.
    has_bn = uses("bn", preset, fields)
    uncertain = 16 if has_bn and ("head_points" in fields or max(fields.get("head_scales", [1])) > 4) else 1
    assert errors.pop("output") <= 6 * uncertain * HALF[dtype]
    if fields.get("feature_map") == "relu":
        # Its derivative jumps where a rounding changes a sign.
        return
    # The linear kernel divides by a sum that may be small, of features that rounded queries and keys go into.
    roundings = 32 if uses("linear", preset, fields) else 24
    assert max(errors.values()) <= roundings * uncertain * HALF[dtype], errors


@back_ends
@pytest.mark.parametrize("dtype", HALF, ids=["bfloat16", "float16"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 7])
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_half_precision_of_few_keys_is_finite(preset, tokens, dtype, implementation):
    layer = make_layer(preset, implementation).to(dtype)
    mask = torch.arange(tokens) < torch.tensor([[tokens], [1], [-(-tokens // 2)]])
    hidden_states = make_input(mask, 3, tokens).to(dtype)
    cotangent = make_cotangent(mask, hidden_states)
    actual = layer_results(layer, hidden_states, mask, cotangent)
    assert not [name for name, value in actual.items() if not value.isfinite().all()]
