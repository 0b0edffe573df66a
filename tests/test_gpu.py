"""On a GPU: every preset by every kernel, causal layers too, compiled, and without waiting for it. By `make gpu`."""

import copy

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from hf_primaldual import PrimalDualConfig
from hf_primaldual.modeling.causal_attention_primal_dual import PrimalDualCausalAttention
from tests.modeling.cases import MASKS, PRESET_CASES, uses
from tests.modeling.parity import layer_results, make_cotangent, make_input, make_layer, relative_errors

pytestmark = pytest.mark.gpu

BATCH, TOKENS, WIDTH, HEADS = 2, 300, 256, 4
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CAUSAL = ("softmax", "bn", "sh", "bn+sh", "linear", "linear-bn", "linear-sh", "linear-bn+sh")
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
presets = pytest.mark.parametrize("preset", PRESET_CASES)


def errors_against_float64(layer, mask, dtype) -> dict[str, float]:
    hidden_states = make_input(mask, BATCH, TOKENS, WIDTH).to(dtype)
    cotangent, layer = make_cotangent(mask, hidden_states), layer.to(dtype)
    actual = layer_results(layer, hidden_states, mask, cotangent)
    # Which equals the formulas to 1e-10, by the parity tests on this very device; math is the kernel that takes it.
    with sdpa_kernel(SDPBackend.MATH):
        expected = layer_results(copy.deepcopy(layer).double(), hidden_states.double(), mask, cotangent.double())
    return relative_errors(actual, expected)


def check(errors: dict[str, float], dtype: torch.dtype) -> None:
    bound = {torch.float32: 1e-4}.get(dtype, 32 * torch.finfo(dtype).eps)
    assert not {name: error for name, error in errors.items() if not error <= bound}


@dtypes
@pytest.mark.parametrize("mask_kind", ["unmasked", "right", "left"])
@pytest.mark.parametrize("kernel", KERNELS)
@presets
def test_every_kernel(preset, kernel, mask_kind, dtype):
    if kernel == "flash" and (mask_kind != "unmasked" or dtype == torch.float32):
        pytest.skip("torch's flash kernel takes neither masks nor float32")
    layer = make_layer(preset, width=WIDTH, heads=HEADS, bn_eps=0.1)
    mask = MASKS[mask_kind](BATCH, TOKENS)
    # Attention over all keys of a sparse pattern's union asks for a bias, which flash does not take either.
    allowed = [KERNELS[kernel]] if not uses("sparse", preset) else [KERNELS[kernel], SDPBackend.MATH]
    with sdpa_kernel(allowed):
        errors = errors_against_float64(layer, mask, dtype)
    check(errors, dtype)


@dtypes
@pytest.mark.parametrize("preset", CAUSAL)
def test_causal_layers(preset, dtype):
    config = PrimalDualConfig(attention=preset, hidden_size=WIDTH, num_attention_heads=HEADS, bn_eps=0.1)
    layer = PrimalDualCausalAttention(config).eval()
    hidden_states = torch.randn(BATCH, TOKENS, WIDTH).to(dtype)
    layer.to(dtype)

    def results(layer, states):
        states = states.clone().requires_grad_()
        output = layer(states)[0]
        gradients = torch.autograd.grad(output.square().sum(), [states, *layer.parameters()])
        return {"output": output.detach(), **{str(place): each for place, each in enumerate(gradients)}}

    expected = results(copy.deepcopy(layer).double(), hidden_states.double())
    check(relative_errors(results(layer, hidden_states), expected), dtype)


@pytest.mark.parametrize("mask_kind", ["unmasked", "left"])
@pytest.mark.parametrize("preset", ["bn", "bn+sh"])
def test_flex_attention(preset, mask_kind):
    layer = make_layer(preset, "flex_attention", width=WIDTH, heads=HEADS, bn_eps=0.1)
    check(errors_against_float64_by_eager(layer, MASKS[mask_kind](BATCH, TOKENS)), torch.bfloat16)


def errors_against_float64_by_eager(layer, mask) -> dict[str, float]:
    """FlexAttention knows no float64."""
    hidden_states = make_input(mask, BATCH, TOKENS, WIDTH)
    cotangent, eager = make_cotangent(mask, hidden_states), copy.deepcopy(layer)
    eager.config = copy.deepcopy(layer.config)
    eager.config._attn_implementation = "eager"
    actual = layer_results(layer, hidden_states, mask, cotangent)
    return relative_errors(actual, layer_results(eager.double(), hidden_states.double(), mask, cotangent.double()))


@pytest.mark.parametrize("preset", ["bn+sh", "linear-bn+sh", "sparse-bn", "conv1d"])
def test_a_compiled_layer(preset):
    torch._dynamo.reset()
    layer = make_layer(preset, width=WIDTH, heads=HEADS, bn_eps=0.1).to(torch.bfloat16)
    hidden_states = make_input(None, BATCH, TOKENS, WIDTH).to(torch.bfloat16)
    cotangent = make_cotangent(None, hidden_states)
    compiled = torch.compile(layer, fullgraph=True)
    inputs = hidden_states.clone().requires_grad_()
    device = torch.get_default_device()
    # The compiler does not know the mode that a default device is.
    torch.set_default_device(None)
    output = compiled(inputs)[0]
    torch.set_default_device(device)
    gradients = torch.autograd.grad(output, [inputs, *layer.parameters()], cotangent)
    actual = {"output": output.detach().flatten(0, 1)}
    actual |= dict(zip(("hidden_states", *dict(layer.named_parameters())), gradients, strict=True))
    actual = {name: each.cpu() for name, each in actual.items()}
    with sdpa_kernel(SDPBackend.MATH):
        expected = layer_results(copy.deepcopy(layer).double(), hidden_states.double(), None, cotangent.double())
    check(relative_errors(actual, expected), torch.bfloat16)


@pytest.fixture
def no_waiting():
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@presets
def test_a_training_step_waits_for_nothing(preset, no_waiting):
    layer = make_layer(preset, width=WIDTH, heads=HEADS)
    hidden_states = torch.randn(BATCH, TOKENS, WIDTH)
    layer(hidden_states)[0].sum().backward()
    torch.cuda.synchronize()
    no_waiting()
    layer(hidden_states)[0].sum().backward()


@pytest.mark.parametrize("preset", CAUSAL)
def test_a_causal_training_step_waits_for_nothing(preset, no_waiting):
    layer = PrimalDualCausalAttention(PrimalDualConfig(attention=preset, hidden_size=WIDTH, num_attention_heads=HEADS))
    hidden_states = torch.randn(BATCH, TOKENS, WIDTH)
    layer(hidden_states)[0].sum().backward()
    torch.cuda.synchronize()
    no_waiting()
    layer(hidden_states)[0].sum().backward()
