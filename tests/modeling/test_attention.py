"""What the layer promises besides its numbers: where settings start, what a forward calls, and its features' ends."""

import pytest
import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.modeling.attention_primal_dual import by_group
from hf_primaldual.modeling.configuration_primal_dual import doubling_scales
from hf_primaldual.modeling.head_groups_primal_dual import HeadGroups
from hf_primaldual.modeling.kernels_primal_dual import elu_plus_one
from tests.modeling.cases import DEFAULT_SCALES, HEADS, WIDTH, right_padding
from tests.modeling.parity import assert_parity, layer_results, make_cotangent, make_layer, reference_results

IDENTITIES = {
    "bn": ("softmax", {"bn_beta": 0.0, "bn_scaling": False}, "bn"),
    "scales-of-one": ("softmax", {"head_scales": [1] * HEADS}, "sh"),
    "sparse-scales": ("sparse", {"head_scales": [1] * HEADS}, "sparse-sh"),
    "conv1d": ("softmax", {"conv_kernel_size": 5}, "conv1d"),
    "conv2d": ("softmax", {}, "conv2d"),
    "conv2d-grid": ("softmax", {"conv2d_reading": "grid", "grid_size": [7, 7], "num_prefix_tokens": 1}, "conv2d"),
    "window": ("softmax", {"sparse_window": 1000, "sparse_stride": 600}, "sparse"),
    "window-of-blocks": ("softmax", {"sparse_stride": 600, "sparse_pattern": ["fixed"]}, "sparse"),
    "sampling": ("sh", {"sampling": "conv"}, "sh"),
    "learned-beta": ("bn+sh", {"bn_beta_learnable": True}, "bn+sh"),
}


@pytest.mark.parametrize(("plain", "fields", "other"), IDENTITIES.values(), ids=IDENTITIES)
def test_settings_that_change_nothing_give_the_plain_attention(plain, fields, other):
    hidden_states = torch.randn(3, 50, WIDTH)
    for mask in (None, right_padding(3, 50)):
        for implementation in ("eager", "sdpa"):
            config = PrimalDualConfig(attention=other, hidden_size=WIDTH, num_attention_heads=HEADS, **fields)
            config._attn_implementation = implementation
            expected, actual = make_layer(plain, implementation), PrimalDualAttention(config).eval()
            actual.load_state_dict(expected.state_dict(), strict=False)
            kept = torch.ones(3, 50, dtype=torch.bool) if mask is None else mask
            same = actual(hidden_states, mask)[0][kept], expected(hidden_states, mask)[0][kept]
            # Windows of one token are the tokens to the bit, and so is what is neither centred nor scaled.
            tolerance = 0 if "head_scales" in fields or "bn_scaling" in fields else 1e-5
            torch.testing.assert_close(*same, rtol=tolerance, atol=tolerance)


def test_the_mask_may_be_of_any_dtype_and_one_of_ones_is_none():
    layer, mask, hidden_states = make_layer("bn+sh"), right_padding(2, 9), torch.randn(2, 9, WIDTH)
    for dtype in (torch.int64, torch.float32):
        assert torch.equal(layer(hidden_states, mask.to(dtype))[0], layer(hidden_states, mask)[0])
    assert torch.equal(layer(hidden_states, torch.ones(2, 9))[0], layer(hidden_states)[0])


@pytest.mark.parametrize(
    ("preset", "fields", "calls"),
    [
        ("sh", {"head_scales": [4, 1, 2, 1]}, [2, 1, 1]),
        ("bn+sh", {"head_scales": [3] * HEADS}, [HEADS]),
        ("bn+sh", {"head_points": [5, 2, 3, 2]}, [2, 1, 1]),
    ],
    ids=["scattered", "one-scale", "points"],
)
def test_one_call_of_the_back_end_for_each_distinct_factor(monkeypatch, preset, fields, calls):
    seen = []

    def counting(module, query, key, value, attention_mask, **kwargs):
        seen.append(query.shape[1])
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "counting", counting)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "counting", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    layer = make_layer(preset, "counting", **fields)
    for mask in (None, right_padding(2, 20)):
        seen.clear()
        layer(torch.randn(2, 20, WIDTH), mask)
        assert seen == calls


class Doubled(nn.Linear):
    """A layer that is more than its weight and bias, as an adapter's wrapper is."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


HOOKS = {
    "forward": lambda linear, call: linear.register_forward_hook(lambda *_: call()),
    "pre": lambda linear, call: linear.register_forward_pre_hook(lambda *_: call()),
    "backward": lambda linear, call: linear.register_full_backward_hook(lambda *_: call()),
    "backward_pre": lambda linear, call: linear.register_full_backward_pre_hook(lambda *_: call()),
    # As accelerate does to a layer whose weights are elsewhere.
    "patched": lambda linear, call: setattr(linear, "forward", lambda x: (call(), type(linear).forward(linear, x))[1]),
}


@pytest.mark.parametrize("hook", [None, *HOOKS])
@pytest.mark.parametrize("kind", [nn.Linear, Doubled])
def test_a_group_of_heads_keeps_all_that_a_projection_is(kind, hook):
    linear, inputs, calls = kind(6, 12, bias=hook is not None), torch.randn(2, 5, 6, requires_grad=True), []
    whole = linear(inputs).detach()
    if hook is not None:
        HOOKS[hook](linear, lambda: calls.append(1))
    # Heads of three channels: alone, neighbours, and apart.
    for amounts, channels in (([1] * 4, [range(12)]), ([1, 2, 2, 4], [range(3), range(3, 9), range(9, 12)]),
                              ([2, 1, 1, 2], [range(3, 9), [0, 1, 2, 9, 10, 11]])):  # fmt: skip
        for project, expected in zip(by_group(linear, HeadGroups(amounts), 3), channels, strict=True):
            calls.clear()
            output = project(inputs)
            output.sum().backward()
            assert calls == [1] * (hook is not None)
            torch.testing.assert_close(output, whole[..., list(expected)])


def test_attention_dropout_acts_in_training_only():
    layer, hidden_states = make_layer("bn+sh", attention_probs_dropout_prob=0.5), torch.randn(2, 20, WIDTH)
    assert torch.equal(layer(hidden_states)[0], layer(hidden_states)[0])
    layer.train()
    assert not torch.equal(layer(hidden_states)[0], layer(hidden_states)[0])


@pytest.mark.parametrize(("heads", "scales"), DEFAULT_SCALES.items())
def test_default_scales_double_after_every_two_heads(heads, scales):
    assert doubling_scales(heads) == scales


def test_random_points_are_drawn_from_all_over_a_window():
    # 4000 windows of 8 tokens: each place is drawn about 500 times, with a deviation of 21.
    hidden_states = torch.arange(8.0).repeat(4000).view(1, -1, 1).expand(-1, -1, WIDTH)
    (group,) = make_layer("sh", head_scales=[8] * HEADS, sampling="random").training_set(hidden_states, None)
    counts = group.pool(hidden_states)[0][0, :, 0].long().bincount(minlength=8)
    assert 400 < counts.min() <= counts.max() < 600


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
