"""What follows from a choice: random points, feature maps, and filters of heads and factors."""

import pytest
import torch
from torch import nn

from hf_primaldual.modeling.kernels_primal_dual import elu_plus_one
from tests.modeling.cases import HEADS, WIDTH
from tests.modeling.parity import (
    assert_parity,
    layer_results,
    make_cotangent,
    make_layer,
    reference_results,
)


@pytest.mark.parametrize(
    "amount", [{"head_scales": [4, 1, 3, 2]}, {"head_points": [3, 7, 40, 5]}], ids=["scale", "pts"]
)
def test_random_points_are_the_same_in_every_forward(amount):
    layer, again = (make_layer("sh", sampling="random", **amount) for _ in range(2))
    again.load_state_dict(layer.state_dict())
    hidden_states = torch.randn(1, 23, WIDTH)
    expected = layer(hidden_states)[0]
    assert torch.equal(layer(hidden_states)[0], expected)
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


@pytest.mark.parametrize("name", ["gelu", "tanh"])
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
