import pytest
import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import count_flops
from hf_primaldual.modeling.attention_primal_dual import project_rows
from tests.modeling.cases import HEADS, PRESET_CASES, WIDTH, choices_of, right_padding
from tests.modeling.parity import make_input, make_layer

HEAD_DIM = WIDTH // HEADS


NO_NORM = {"bn_beta": 0.0, "bn_scaling": False}
ALL_POINTS = {"head_scales": [1] * HEADS}
IDENTITIES = {
    "bn": ("softmax", NO_NORM, "bn"),
    "linear-bn": ("linear", NO_NORM, "linear-bn"),
    "sparse-bn": ("sparse", NO_NORM, "sparse-bn"),
    "scales-of-one": ("softmax", ALL_POINTS, "sh"),
    "points": ("softmax", {"head_points": 50}, "sh"),
    "linear-scales": ("linear", ALL_POINTS, "linear-sh"),
    "sparse-scales": ("sparse", ALL_POINTS, "sparse-sh"),
    "conv1d": ("softmax", {"conv_kernel_size": 5}, "conv1d"),
    "conv2d": ("softmax", {}, "conv2d"),
    "conv2d-grid": ("softmax", {"conv2d_reading": "grid", "grid_size": [7, 7], "num_prefix_tokens": 1}, "conv2d"),
    "window": ("softmax", {"sparse_window": 1000, "sparse_stride": 600}, "sparse"),
    "window-of-blocks": ("softmax", {"sparse_stride": 600, "sparse_pattern": ["fixed"]}, "sparse"),
    "sampling": ("sh", {"sampling": "conv"}, "sh"),
}


def untrained(preset: str, implementation: str = "sdpa", **fields) -> PrimalDualAttention:
    """A layer as it starts."""
    config = PrimalDualConfig(attention=preset, hidden_size=WIDTH, num_attention_heads=HEADS, **fields)
    config._attn_implementation = implementation
    return PrimalDualAttention(config).eval()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_the_mask_may_be_of_any_dtype(dtype):
    layer, mask = make_layer("bn+sh"), right_padding(2, 9)
    hidden_states = make_input(mask, 2, 9)
    assert torch.equal(layer(hidden_states, mask.to(dtype))[0], layer(hidden_states, mask)[0])


def test_a_mask_of_ones_is_no_mask():
    layer, hidden_states = make_layer("bn+sh"), torch.randn(2, 9, WIDTH)
    assert torch.equal(layer(hidden_states, torch.ones(2, 9))[0], layer(hidden_states)[0])


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize(("plain", "fields", "other"), IDENTITIES.values(), ids=IDENTITIES)
def test_settings_that_change_nothing_give_the_plain_attention(plain, fields, other, masked):
    mask, hidden_states = right_padding(3, 50) if masked else None, torch.randn(3, 50, WIDTH)
    for implementation in ("eager", "sdpa"):
        expected, actual = make_layer(plain, implementation), untrained(other, implementation, **fields)
        actual.load_state_dict(expected.state_dict(), strict=False)
        kept = torch.ones(3, 50, dtype=torch.bool) if mask is None else mask
        same = actual(hidden_states, mask)[0][kept], expected(hidden_states, mask)[0][kept]
        # Windows of one token are the tokens to the bit, and so is what is neither centred nor scaled.
        tolerance = 1e-5 if "conv" in other or other == "sparse" or "sampling" in fields else 0
        torch.testing.assert_close(*same, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("learned", [False, True], ids=["constant", "learned"])
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_the_weights_of_softmax_load_into_every_preset(preset, learned):
    softmax = make_layer("softmax").state_dict()
    layer = make_layer(preset, bn_beta_learnable=learned)
    missing, unexpected = layer.load_state_dict(softmax, strict=False)
    assert unexpected == []
    own = {"bn": ["beta"] if learned else [], "conv1d": ["weight"], "conv2d": ["weight"]}
    transforms = choices_of(preset)[1]
    assert missing == [f"transforms.{i}.{name}" for i, transform in enumerate(transforms) for name in own[transform]]
    assert torch.equal(layer.k_proj.weight, softmax["k_proj.weight"])


def test_a_learned_beta_starts_from_the_constant():
    hidden_states = torch.randn(2, 9, WIDTH)
    constant, learned = make_layer("bn+sh", bn_beta=0.3), untrained("bn+sh", bn_beta=0.3, bn_beta_learnable=True)
    learned.load_state_dict(constant.state_dict(), strict=False)
    assert learned.transforms[0].beta.tolist() == pytest.approx([0.3] * HEADS)
    torch.testing.assert_close(learned(hidden_states)[0], constant(hidden_states)[0])


@pytest.mark.parametrize(
    ("preset", "fields", "calls"),
    [
        ("bn", {}, [HEADS]),
        ("sh", {"head_scales": [4, 1, 2, 1]}, [2, 1, 1]),
        ("bn+sh", {"head_scales": [3] * HEADS}, [HEADS]),
        ("bn+sh", {"head_points": [5, 2, 3, 2]}, [2, 1, 1]),
    ],
    ids=["bn", "scattered", "one-scale", "points"],
)
def test_one_call_of_the_back_end_for_each_distinct_factor(monkeypatch, preset, fields, calls):
    seen = []

    def counting(module, query, key, value, attention_mask, **kwargs):
        seen.append(query.shape[1])
        assert query.shape[1] == key.shape[1] == value.shape[1]
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "counting", counting)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "counting", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    layer = make_layer(preset, "counting", **fields)
    for mask in (None, right_padding(2, 20)):
        seen.clear()
        layer(torch.randn(2, 20, WIDTH), mask)
        assert seen == calls


def test_flops_are_those_of_the_points_that_each_head_sees():
    batch, tokens, scales = 2, 30, [4, 1, 3, 1]
    layer = make_layer("sh", head_scales=scales)
    keys = [-(-tokens // scale) for scale in scales]
    projections = 2 * batch * tokens * WIDTH * WIDTH * 2 + sum(2 * batch * n * WIDTH * HEAD_DIM * 2 for n in keys)
    products = sum(2 * batch * tokens * n * HEAD_DIM * 2 for n in keys)
    assert count_flops(layer, torch.randn(batch, tokens, WIDTH), None) == projections + products


class Doubled(nn.Linear):
    """A layer that is more than its weight and bias, as an adapter's wrapper is."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


ROWS = pytest.mark.parametrize("rows", [None, slice(3, 9), [0, 1, 8, 9]], ids=["all", "slice", "list"])


@ROWS
@pytest.mark.parametrize(("layer", "bias"), [(nn.Linear, True), (nn.Linear, False), (Doubled, True)])
def test_project_rows_equals_the_rows_of_the_whole(layer, bias, rows):
    linear, inputs = layer(6, 12, bias=bias), torch.randn(2, 5, 6)
    expected = linear(inputs) if rows is None else linear(inputs)[..., rows]
    torch.testing.assert_close(project_rows(linear, inputs, rows), expected)


@pytest.mark.parametrize("kind", ["forward", "pre", "backward", "backward_pre", "patched"])
def test_project_rows_keeps_hooks_and_patches(kind):
    linear, inputs = nn.Linear(6, 12), torch.randn(2, 5, 6, requires_grad=True)
    whole = linear(inputs)[..., 3:9].detach()
    calls = []
    if kind == "forward":
        linear.register_forward_hook(lambda module, args, output: calls.append(kind) or 2 * output)
    elif kind == "pre":
        linear.register_forward_pre_hook(lambda module, args: calls.append(kind))
    elif kind == "backward":
        linear.register_full_backward_hook(lambda module, inputs, outputs: calls.append(kind))
    elif kind == "backward_pre":
        linear.register_full_backward_pre_hook(lambda module, outputs: calls.append(kind))
    else:
        # As accelerate does to a layer whose weights are elsewhere.
        forward = linear.forward
        linear.forward = lambda inputs: calls.append(kind) or forward(inputs)
    output = project_rows(linear, inputs, slice(3, 9))
    output.sum().backward()
    assert calls == [kind]
    torch.testing.assert_close(output, 2 * whole if kind == "forward" else whole)


def test_attention_dropout_acts_in_training_only():
    layer = make_layer("bn+sh", attention_probs_dropout_prob=0.5)
    hidden_states = torch.randn(2, 20, WIDTH)
    assert torch.equal(layer(hidden_states)[0], layer(hidden_states)[0])
    layer.train()
    assert not torch.equal(layer(hidden_states)[0], layer(hidden_states)[0])


@pytest.mark.parametrize(
    "shape", [(2, WIDTH), (2, 0, WIDTH), (2, 5, WIDTH + 1), (1, 2, 5, WIDTH)], ids=["2d", "empty", "width", "4d"]
)
def test_hidden_states_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError) as error:
        make_layer("bn+sh")(torch.zeros(shape))
    assert "`hidden_states`" in str(error.value)
    assert f"(batch, tokens, {WIDTH})" in str(error.value)
    assert str(shape) in str(error.value)
