"""The three choices one by one: what each starts as, what follows from it, and how they are combined freely."""

import pytest
import torch
from torch import nn

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.modeling.kernels_primal_dual import elu_plus_one
from tests.modeling.cases import HEADS, MASKS, PRESET_CASES, WIDTH, choices_of, holes, right_padding
from tests.modeling.parity import (
    assert_parity,
    layer_results,
    make_cotangent,
    make_input,
    make_layer,
    reference_results,
)

masks = pytest.mark.parametrize("mask_kind", MASKS)


def untrained(preset: str, state: dict | None = None, **fields) -> PrimalDualAttention:
    """A layer as it starts, with the projections of another one."""
    config = PrimalDualConfig(attention=preset, hidden_size=WIDTH, num_attention_heads=HEADS, **fields)
    layer = PrimalDualAttention(config).eval()
    if state is not None:
        layer.load_state_dict({name: tensor for name, tensor in state.items() if "_proj." in name}, strict=False)
    return layer


@pytest.mark.parametrize("preset", PRESET_CASES)
def test_a_preset_is_its_three_choices(preset):
    kernel, transforms, training_set = choices_of(preset)
    named = make_layer(preset)
    chosen = make_layer("softmax", kernel=kernel, transforms=list(transforms), training_set=training_set)
    chosen.load_state_dict(named.state_dict())
    mask = right_padding(2, 20)
    hidden_states = make_input(mask, 2, 20)
    assert torch.equal(chosen(hidden_states, mask)[0], named(hidden_states, mask)[0])


@pytest.mark.parametrize(
    ("preset", "plain", "fields"),
    [
        ("conv1d", "softmax", {}),
        ("conv1d", "softmax", {"conv_kernel_size": 5}),
        ("conv2d", "softmax", {}),
        ("conv2d", "softmax", {"conv2d_reading": "grid", "grid_size": [4, 4], "num_prefix_tokens": 1}),
        ("conv2d+bn", "bn", {}),
    ],
    ids=["conv1d", "conv1d-kernel5", "conv2d", "conv2d-grid", "conv2d+bn"],
)
@masks
def test_convolutions_start_as_the_identity(preset, plain, fields, mask_kind):
    expected = untrained(plain)
    actual = untrained(preset, expected.state_dict(), **fields)
    mask, hidden_states = MASKS[mask_kind](3, 17), torch.randn(3, 17, WIDTH)
    kept = torch.ones(3, 17, dtype=torch.bool) if mask is None else mask
    output = actual(hidden_states, mask)[0]
    torch.testing.assert_close(output[kept], expected(hidden_states, mask)[0][kept], rtol=1e-6, atol=1e-6)


@masks
def test_a_learned_sampling_starts_as_the_average(mask_kind):
    average = untrained("sh", head_scales=[4, 1, 3, 50])
    learned = untrained("sh", average.state_dict(), head_scales=[4, 1, 3, 50], sampling="conv")
    mask, hidden_states = MASKS[mask_kind](3, 17), torch.randn(3, 17, WIDTH)
    actual, expected = learned(hidden_states, mask)[0], average(hidden_states, mask)[0]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "amount", [{"head_scales": [4, 1, 3, 2]}, {"head_points": [3, 7, 40, 5]}], ids=["scale", "pts"]
)
def test_random_points_are_the_same_in_every_forward_and_with_padding(amount):
    layer = make_layer("sh", sampling="random", **amount)
    hidden_states = torch.randn(1, 23, WIDTH)
    expected = layer(hidden_states)[0]
    assert torch.equal(layer(hidden_states)[0], expected)
    padded = torch.cat((hidden_states, 30 * torch.randn(1, 9, WIDTH)), dim=1)
    mask = (torch.arange(32) < 23).unsqueeze(0)
    torch.testing.assert_close(layer(padded, mask)[0][:, :23], expected, rtol=1e-5, atol=1e-6)
    again = make_layer("sh", sampling="random", **amount)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(hidden_states)[0], expected)


def test_another_seed_draws_other_points():
    hidden_states, drawn = torch.randn(1, 64, WIDTH), []
    for seed in range(4):
        layer = make_layer("sh", head_scales=[8] * HEADS, sampling="random", sampling_seed=seed)
        (group,) = layer.training_set(hidden_states, None)
        points, _ = group.pool(hidden_states)
        assert all(point in hidden_states[0] for point in points[0])
        drawn.append(points)
    assert not any(torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_random_points_are_drawn_from_all_over_a_window():
    # 4000 windows of 8 tokens: each place is drawn about 500 times, with a deviation of 21.
    hidden_states = torch.arange(8.0).repeat(4000).view(1, -1, 1).expand(-1, -1, WIDTH)
    (group,) = make_layer("sh", head_scales=[8] * HEADS, sampling="random").training_set(hidden_states, None)
    counts = group.pool(hidden_states)[0][0, :, 0].long().bincount(minlength=8)
    assert counts.min() > 400
    assert counts.max() < 600


GRIDS = {
    "alone": {"attention": "conv2d"},
    "prefix": {"attention": "conv2d", "num_prefix_tokens": 2, "conv_kernel_size": 5},
    "then-bn": {"attention": "conv2d+bn", "num_prefix_tokens": 1},
    "linear": {"attention": "linear", "transforms": ["conv2d"]},
    "sparse": {"attention": "sparse", "transforms": ["conv2d"], "sparse_window": 4, "sparse_stride": 6},
}


@pytest.mark.parametrize("fields", GRIDS.values(), ids=GRIDS)
@masks
def test_convolution_over_the_grid_equals_the_formulas(fields, mask_kind):
    fields = dict(fields)
    layer = make_layer(fields.pop("attention"), conv2d_reading="grid", grid_size=[3, 5], bn_eps=0.1, **fields)
    tokens = 15 + layer.config.num_prefix_tokens
    mask = MASKS[mask_kind](3, tokens)
    hidden_states = make_input(mask, 3, tokens)
    cotangent = make_cotangent(mask, hidden_states)
    actual = layer_results(layer, hidden_states, mask, cotangent)
    assert_parity(actual, reference_results(layer, hidden_states, mask, cotangent), 1e-5)


def test_tokens_that_do_not_fill_the_grid_are_refused():
    layer = make_layer("conv2d", conv2d_reading="grid", grid_size=[3, 5], num_prefix_tokens=1)
    with pytest.raises(ValueError) as error:
        layer(torch.randn(2, 15, WIDTH))
    message = "`grid_size` [3, 5] with 1 prefix tokens needs 16 tokens, got 15."
    assert str(error.value) == message


@pytest.mark.parametrize("parts", [["local"], ["local", "strided", "fixed"]], ids="-".join)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@masks
def test_a_window_that_reaches_past_the_sequence_is_softmax_attention(parts, implementation, mask_kind):
    dense = make_layer("softmax", implementation)
    sparse = make_layer("sparse", implementation, sparse_window=1000, sparse_stride=600, sparse_pattern=parts)
    sparse.load_state_dict(dense.state_dict())
    mask = MASKS[mask_kind](3, 40)
    hidden_states = make_input(mask, 3, 40)
    actual, expected = sparse(hidden_states, mask)[0], dense(hidden_states, mask)[0]
    kept = torch.ones(3, 40, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(actual[kept], expected[kept], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gelu", "tanh", "silu"])
def test_a_feature_map_that_goes_negative_is_refused_by_its_name(name):
    layer = make_layer("linear", feature_map=name)
    with pytest.raises(ValueError, match=rf"`feature_map='{name}'` gave -\d.*must not be negative"):
        layer(torch.randn(2, 20, WIDTH))


def test_an_unknown_feature_map_is_refused_when_the_layer_is_built():
    with pytest.raises(ValueError, match=r"`feature_map` must be 'elu\+1' or an activation .*, got 'cosine'"):
        make_layer("linear", feature_map="cosine")
    # Where there is no linear kernel, the field is of no use and not looked at.
    make_layer("softmax", feature_map="cosine")


def test_elu_plus_one_is_exact_below_zero_and_has_its_gradient_at_zero():
    states = torch.tensor([-80.0, -20.0, -1.0, 0.0, 2.0, 300.0], requires_grad=True)
    features = elu_plus_one(states)
    expected = torch.where(states > 0, states.double() + 1, states.double().clamp(max=0).exp())
    torch.testing.assert_close(features.double(), expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(features.sum(), states)
    torch.testing.assert_close(gradient.double(), expected.clamp(max=1), rtol=1e-6, atol=0)


def test_features_that_are_far_below_zero_still_count():
    layer, hidden_states = make_layer("linear"), torch.randn(2, 20, WIDTH)
    with torch.no_grad():
        layer.q_proj.bias.sub_(40)
    cotangent = make_cotangent(None, hidden_states)
    actual = layer_results(layer, hidden_states, None, cotangent)
    assert_parity(actual, reference_results(layer, hidden_states, None, cotangent), 1e-4)


def test_a_query_that_has_no_feature_in_common_with_any_key_puts_out_the_bias():
    layer = make_layer("linear", feature_map="relu")
    with torch.no_grad():
        layer.q_proj.bias.fill_(-100)
    hidden_states = torch.randn(2, 20, WIDTH, requires_grad=True)
    output, _ = layer(hidden_states)
    torch.testing.assert_close(output, layer.o_proj.bias.expand_as(output))
    (gradient,) = torch.autograd.grad((output * 1e3 * torch.randn_like(output)).sum(), hidden_states)
    assert gradient.eq(0).all()


def test_filters_of_one_factor_are_shared_by_its_heads():
    layer = make_layer("sh", head_scales=[4, 1, 2, 4], sampling="conv")
    shapes = {name: tuple(filters.shape) for name, filters in layer.training_set.filters.named_parameters()}
    assert shapes == {"2": (2, WIDTH), "4": (4, WIDTH)}


def test_filters_of_scattered_heads_are_their_own():
    # Heads of one factor are grouped; each keeps the filter of its number.
    layer = make_layer("conv1d", training_set="downsampled", head_scales=[4, 1, 2, 1])
    hidden_states = torch.randn(2, 20, WIDTH)
    before = layer(hidden_states, output_attentions=True)[1]
    with torch.no_grad():
        head_dim = WIDTH // HEADS
        nn.init.normal_(layer.transforms[0].weight[2 * head_dim : 3 * head_dim])
    after = layer(hidden_states, output_attentions=True)[1]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, True]


def test_holes_are_zeros_to_a_convolution_along_the_sequence():
    layer, mask = make_layer("conv1d"), holes(2, 20)
    hidden_states = make_input(mask, 2, 20)
    other = torch.where(mask.unsqueeze(-1), hidden_states, torch.randn_like(hidden_states))
    assert torch.equal(layer(hidden_states, mask)[0][mask], layer(other, mask)[0][mask])
