import pytest
import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import count_flops
from hf_primaldual.modeling.attention_primal_dual import project_rows
from tests.modeling.cases import (
    HEADS,
    PRESET_CASES,
    WIDTH,
    all_settings,
    choices_of,
    holes,
    right_padding,
    settings_by_back_end,
    uses,
)
from tests.modeling.parity import make_input, make_layer

HEAD_DIM = WIDTH // HEADS
back_ends = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def is_with(choice: str, plain: str, other: str) -> bool:
    """Whether the preset `other` is `plain` with one more choice, and no convolution, which has filters of its own."""
    if uses(choice, plain) or not uses(choice, other) or uses("conv2d", other):
        return False
    without = [
        {part for part in parts if part not in (choice, "all")}
        for kernel, transforms, training_set in (choices_of(plain), choices_of(other))
        for parts in [(kernel, *transforms, *training_set.split("+"))]
    ]
    return without[0] == without[1]


@pytest.mark.parametrize("tokens", [7, 63])
@pytest.mark.parametrize(("preset", "fields", "implementation"), settings_by_back_end())
def test_a_padded_batch_equals_its_rows_alone(preset, fields, implementation, tokens):
    layer = make_layer(preset, implementation, bn_eps=0.1, **fields)
    mask = right_padding(4, tokens)
    hidden_states = make_input(mask, 4, tokens)
    together, _ = layer(hidden_states, mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone, _ = layer(hidden_states[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :length], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("preset", "fields"), all_settings())
def test_more_padding_changes_nothing(preset, fields):
    layer = make_layer(preset, bn_eps=0.1, **fields)
    mask = holes(3, 20)
    hidden_states = make_input(mask, 3, 20)
    longer = torch.cat((hidden_states, 30 * torch.randn(3, 9, WIDTH)), dim=1)
    longer_mask = nn.functional.pad(mask, (0, 9))
    expected, actual = layer(hidden_states, mask)[0], layer(longer, longer_mask)[0][:, :20]
    torch.testing.assert_close(actual[mask], expected[mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("preset", "fields", "implementation"), settings_by_back_end())
def test_what_padding_puts_out_is_finite(preset, fields, implementation):
    # A padded query may be far from every real key.
    layer, mask = make_layer(preset, implementation, **fields), torch.arange(40) < torch.tensor([[40], [3]])
    hidden_states = make_input(mask, 2, 40).requires_grad_()
    output, _ = layer(hidden_states, mask)
    assert output.isfinite().all()
    (gradient,) = torch.autograd.grad(output.square().sum(), hidden_states)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_the_mask_may_be_of_any_dtype(dtype):
    layer, mask = make_layer("bn+sh"), right_padding(2, 9)
    hidden_states = make_input(mask, 2, 9)
    assert torch.equal(layer(hidden_states, mask.to(dtype))[0], layer(hidden_states, mask)[0])


@pytest.mark.parametrize(("preset", "fields"), all_settings())
def test_a_mask_of_ones_is_no_mask(preset, fields):
    layer, hidden_states = make_layer(preset, **fields), torch.randn(2, 9, WIDTH)
    assert torch.equal(layer(hidden_states, torch.ones(2, 9))[0], layer(hidden_states)[0])


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@back_ends
@pytest.mark.parametrize(
    ("plain", "transformed"),
    [(plain, bn) for bn in PRESET_CASES for plain in PRESET_CASES if is_with("bn", plain, bn)],
)
def test_beta_zero_without_scaling_is_the_plain_attention_to_the_bit(plain, transformed, implementation, masked):
    mask = right_padding(3, 50) if masked else None
    hidden_states = torch.randn(3, 50, WIDTH)
    expected = make_layer(plain, implementation)
    actual = make_layer(transformed, implementation, bn_beta=0.0, bn_scaling=False)
    actual.load_state_dict(expected.state_dict())
    assert torch.equal(actual(hidden_states, mask)[0], expected(hidden_states, mask)[0])


@pytest.mark.parametrize("fields", [{"head_scales": [1] * HEADS}, {"head_points": 50}], ids=["scale1", "points"])
@pytest.mark.parametrize(
    ("plain", "downsampled"),
    [(plain, sh) for sh in PRESET_CASES for plain in PRESET_CASES if is_with("downsampled", plain, sh)],
)
def test_heads_that_see_every_token_are_the_plain_attention_to_the_bit(plain, downsampled, fields):
    if uses("sparse", plain) and "head_points" in fields:
        pytest.skip("points have no place from which a pattern could be measured")
    hidden_states = torch.randn(3, 50, WIDTH)
    expected, actual = make_layer(plain), make_layer(downsampled, **fields)
    actual.load_state_dict(expected.state_dict())
    assert torch.equal(actual(hidden_states)[0], expected(hidden_states)[0])


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
    constant = make_layer("bn+sh", bn_beta=0.3)
    learned = PrimalDualAttention(
        PrimalDualConfig(
            attention="bn+sh", hidden_size=WIDTH, num_attention_heads=HEADS, bn_beta=0.3, bn_beta_learnable=True
        )
    )
    learned.load_state_dict(constant.state_dict(), strict=False)
    assert learned.transforms[0].beta.tolist() == pytest.approx([0.3] * HEADS)
    torch.testing.assert_close(learned(hidden_states)[0], constant(hidden_states)[0])


@pytest.mark.parametrize(
    ("preset", "fields", "calls"),
    [
        ("softmax", {}, [HEADS]),
        ("bn", {}, [HEADS]),
        ("sh", {"head_scales": [4, 1, 2, 1]}, [2, 1, 1]),
        ("bn+sh", {}, [2, 2]),
        ("bn+sh", {"head_scales": [3] * HEADS}, [HEADS]),
        ("bn+sh", {"head_points": [5, 2, 3, 2]}, [2, 1, 1]),
    ],
    ids=["softmax", "bn", "sh-scattered", "bn+sh-default", "bn+sh-one-scale", "bn+sh-points"],
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


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@back_ends
@pytest.mark.parametrize(
    ("preset", "scales"),
    [("softmax", [1] * HEADS), ("bn", [1] * HEADS), ("sh", [4, 1, 3, 1]), ("bn+sh", [1, 1, 2, 2])],
    ids=["softmax", "bn", "sh", "bn+sh"],
)
def test_flops_are_those_of_the_points_that_each_head_sees(preset, scales, implementation, masked):
    fields = {"head_scales": scales} if uses("downsampled", preset) else {}
    batch, tokens = 2, 30
    layer = make_layer(preset, implementation, **fields)
    mask = right_padding(batch, tokens) if masked else None
    keys = [-(-tokens // scale) for scale in scales]
    projections = 2 * batch * tokens * WIDTH * WIDTH * 2 + sum(2 * batch * n * WIDTH * HEAD_DIM * 2 for n in keys)
    products = sum(2 * batch * tokens * n * HEAD_DIM * 2 for n in keys)
    assert count_flops(layer, torch.randn(batch, tokens, WIDTH), mask) == projections + products


def test_flops_grow_linearly_with_a_number_of_points():
    layer = make_layer("sh", head_points=8)
    short, long = (count_flops(layer, torch.randn(1, tokens, WIDTH)) for tokens in (64, 640))
    points = 2 * 8 * WIDTH * WIDTH * 2
    assert long - points == 10 * (short - points)


class Doubled(nn.Linear):
    """A layer that is more than its weight and bias, as an adapter's wrapper is."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


ROWS = pytest.mark.parametrize("rows", [None, slice(3, 9), [0, 1, 8, 9]], ids=["all", "slice", "list"])


@ROWS
@pytest.mark.parametrize("bias", [True, False])
def test_project_rows_equals_the_rows_of_the_whole(rows, bias):
    linear, inputs = nn.Linear(6, 12, bias=bias), torch.randn(2, 5, 6)
    expected = linear(inputs) if rows is None else linear(inputs)[..., rows]
    torch.testing.assert_close(project_rows(linear, inputs, rows), expected)


@ROWS
def test_project_rows_calls_a_layer_that_is_more_than_a_linear_one(rows):
    linear, inputs = Doubled(6, 12), torch.randn(2, 5, 6)
    expected = linear(inputs) if rows is None else linear(inputs)[..., rows]
    assert torch.equal(project_rows(linear, inputs, rows), expected)


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


def test_an_adapter_on_a_projection_acts_on_every_group_of_heads():
    hidden_states = torch.randn(2, 20, WIDTH)
    layer = make_layer("bn+sh", head_scales=[4, 1, 2, 1])
    adapted = make_layer("bn+sh", head_scales=[4, 1, 2, 1])
    adapted.load_state_dict(layer.state_dict())
    for name in ("k_proj", "v_proj"):
        wrapper = Doubled(WIDTH, WIDTH)
        wrapper.load_state_dict(getattr(layer, name).state_dict())
        setattr(adapted, name, wrapper)
        for parameter in getattr(layer, name).parameters():
            parameter.data *= 2
    torch.testing.assert_close(adapted(hidden_states)[0], layer(hidden_states)[0])


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
