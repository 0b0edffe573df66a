"""Prefix tokens and grids of patches: the layer against the formulas, and what it refuses."""

import itertools

import pytest
import torch

from tests.modeling.cases import MASKS, PRESET_CASES, all_settings, uses
from tests.modeling.parity import (
    assert_parity,
    layer_results,
    make_cotangent,
    make_input,
    make_layer,
    reference_results,
)

# Every preset as it is, and what a training set can be told.
SETTINGS = [
    param
    for param in all_settings()
    if param.id.endswith("-default") or uses("downsampled", *param.values) or uses("sparse", *param.values)
]
# Ragged in one or both directions for most scales; one row, one column and one patch.
GRIDS = [(5, 7), (4, 4), (1, 6), (6, 1), (1, 1)]


def daily_pairs(first, second, daily):
    """Parameters: all pairs, and those that are not among `daily` run with the slow tests."""
    pairs = itertools.product(first, second)
    return [pytest.param(*pair, marks=() if pair in daily else pytest.mark.slow) for pair in pairs]


def compare(layer, mask_kind, tokens, grid_size=None, tolerance=1e-10):
    mask = MASKS[mask_kind](3, tokens)
    hidden_states = make_input(mask, 3, tokens).double()
    cotangent = make_cotangent(mask, hidden_states)
    assert_parity(
        layer_results(layer.double(), hidden_states, mask, cotangent, grid_size=grid_size),
        reference_results(layer, hidden_states, mask, cotangent, grid_size=grid_size),
        tolerance,
    )


@pytest.mark.parametrize(
    ("prefix", "mask_kind"), daily_pairs((0, 2), ("unmasked", "holes"), {(0, "unmasked"), (2, "holes")})
)
@pytest.mark.parametrize("grid_size", GRIDS, ids=str)
@pytest.mark.parametrize(("preset", "fields"), SETTINGS)
def test_a_grid_equals_the_formulas(preset, fields, grid_size, prefix, mask_kind):
    layer = make_layer(preset, grid_size=grid_size, num_prefix_tokens=prefix, **fields)
    compare(layer, mask_kind, prefix + grid_size[0] * grid_size[1])


@pytest.mark.parametrize(
    ("tokens", "mask_kind"),
    daily_pairs((1, 2, 23), MASKS, {(1, "unmasked"), (2, "padded"), *((23, kind) for kind in MASKS)}),
)
@pytest.mark.parametrize(("preset", "fields"), SETTINGS)
def test_a_sequence_with_a_prefix_equals_the_formulas(preset, fields, tokens, mask_kind):
    compare(make_layer(preset, num_prefix_tokens=1, **fields), mask_kind, tokens)


@pytest.mark.parametrize("preset", [preset for preset in PRESET_CASES if uses("downsampled", preset)])
def test_in_float32_with_eager_too(preset):
    layer = make_layer(preset, "eager", grid_size=[5, 7], num_prefix_tokens=1, bn_eps=0.1)
    hidden_states = make_input(None, 2, 36)
    cotangent = make_cotangent(None, hidden_states)
    actual = layer_results(layer, hidden_states, None, cotangent)
    assert_parity(actual, reference_results(layer, hidden_states, None, cotangent), 3e-5)


@pytest.mark.parametrize(("preset", "fields"), [*SETTINGS, ("conv2d+bn", {"conv2d_reading": "grid"})])
def test_another_grid_in_a_call_is_that_of_the_call(preset, fields):
    layer = make_layer(preset, grid_size=[4, 4], num_prefix_tokens=1, **fields)
    compare(layer, "unmasked", 1 + 3 * 8, grid_size=(3, 8))


def test_keys_shrink_by_the_square_of_the_scale():
    layer = make_layer("sh", "eager", grid_size=[8, 8], num_prefix_tokens=1, head_scales=[1, 2, 4, 8])
    _, maps = layer(make_input(None, 2, 65), output_attentions=True)
    assert [each.shape for each in maps] == [(2, 65, 1 + keys) for keys in (64, 16, 4, 1)]


def test_points_on_a_grid_are_rectangles():
    layer = make_layer("sh", "eager", grid_size=[6, 12], head_points=[8, 5, 100, 1])
    _, maps = layer(make_input(None, 2, 72), output_attentions=True)
    assert [each.shape[-1] for each in maps] == [2 * 4, 2 * 2, 72, 1]


@pytest.mark.parametrize("preset", ["sh", "sparse-bn+sh", "linear-bn+sh"])
def test_a_grid_that_the_tokens_do_not_fill_is_refused(preset):
    layer = make_layer(preset, grid_size=[4, 4], num_prefix_tokens=1)
    with pytest.raises(ValueError, match=r"`grid_size` \[4, 4\] with 1 prefix tokens needs 17 tokens, got 20"):
        layer(torch.randn(2, 20, layer.config.hidden_size))
