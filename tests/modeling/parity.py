"""A layer and the reference on the same weights and input: output and gradients by name."""

import torch

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from tests.modeling.cases import HEADS, MASKS, WIDTH, choices_of, reference_choices
from tests.reference import naive


def make_layer(preset: str, implementation: str = "sdpa", width: int = WIDTH, heads: int = HEADS, **fields):
    """A layer whose weights give logits of order one and keys with a mean of the order of their deviation."""
    config = PrimalDualConfig(attention=preset, hidden_size=width, num_attention_heads=heads, **fields)
    config._attn_implementation = implementation
    layer = PrimalDualAttention(config)
    # As the reference reads it: the configuration has a name of its own for what is no preset.
    layer.choices = choices_of(preset, fields)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "filters" in name or (name.startswith("transforms") and name.endswith("weight")):
                # Filters keep something of what they start as, so that what they put out stays of order one.
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif name.endswith("weight"):
                parameter.normal_(std=width**-0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.5)
            else:
                # One beta per head, so that betas that are handed to the wrong heads are seen.
                parameter.add_(torch.linspace(-0.5, 0.5, len(parameter)))
    return layer.eval()


def make_input(mask: torch.Tensor | None, batch: int, tokens: int, width: int = WIDTH) -> torch.Tensor:
    """Random tokens; padding holds larger ones, so that a leak of it is seen."""
    hidden_states = torch.randn(batch, tokens, width)
    if mask is not None:
        hidden_states = torch.where(mask.unsqueeze(-1), hidden_states, 30 * torch.randn_like(hidden_states))
    return hidden_states


def make_cotangent(mask: torch.Tensor | None, hidden_states: torch.Tensor) -> torch.Tensor:
    """Random gradient of the output; what padded queries put out does not count."""
    cotangent = torch.randn_like(hidden_states)
    return cotangent if mask is None else cotangent * mask.unsqueeze(-1)


def layer_results(layer, hidden_states, mask, cotangent, grid_size=None) -> dict[str, torch.Tensor]:
    """`output` at the valid tokens, and the gradient of the input and of each parameter by its name."""
    hidden_states = hidden_states.clone().requires_grad_()
    output, _ = layer(hidden_states, mask, grid_size=grid_size)
    parameters = dict(layer.named_parameters())
    inputs = (hidden_states, *parameters.values())
    gradients = torch.autograd.grad(output, inputs, cotangent.to(output.dtype), materialize_grads=True)
    return _results(output, mask, ("hidden_states", *parameters), gradients)


def reference_results(
    layer, hidden_states, mask, cotangent, dtype=torch.float64, grid_size=None
) -> dict[str, torch.Tensor]:
    """The same of the formulas, in float64 and on the processor: their loops are no work for a GPU."""
    with torch.device("cpu"):
        return _reference_results(layer, hidden_states, mask, cotangent, dtype, grid_size)


def _reference_results(layer, hidden_states, mask, cotangent, dtype, grid_size):
    mask = None if mask is None else mask.cpu()
    cotangent, hidden_states = cotangent.cpu(), hidden_states.to("cpu", dtype, copy=True).requires_grad_()
    leaves = {name: p.detach().to("cpu", dtype, copy=True).requires_grad_() for name, p in layer.named_parameters()}
    no_bias = torch.zeros(hidden_states.shape[-1], dtype=dtype)
    weights = {
        letter: (leaves[f"{letter}_proj.weight"], leaves.get(f"{letter}_proj.bias", no_bias)) for letter in "qkvo"
    }
    config = layer.config
    choices = reference_choices(config, layer.choices, leaves, grid_size)
    output = naive.attention_layer(hidden_states, mask, weights, config.num_attention_heads, **choices)
    inputs = (hidden_states, *leaves.values())
    gradients = torch.autograd.grad(output, inputs, cotangent.to(dtype), materialize_grads=True)
    return _results(output, mask, ("hidden_states", *leaves), gradients)


def _results(output, mask, names, gradients):
    output = output.detach()
    valid = output.flatten(0, 1) if mask is None else output[mask]
    return {name: each.cpu() for name, each in zip(("output", *names), (valid, *gradients), strict=True)}


def relative_errors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """
    max|a - b| / max|b| of each result.

    A gradient that is zero by symmetry, as that of softmax's key bias, has no scale of its own and is measured against
    the largest gradient. Where a convolution leaves of that bias only what it adds at the ends of the sequence, its
    scale is that of the keys' weight.
    """
    assert actual.keys() == expected.keys()
    sizes = {name: value.abs().max().item() for name, value in expected.items()}
    if "k_proj.bias" in sizes and any(name.startswith("transforms") for name in sizes):
        sizes["k_proj.bias"] = max(sizes["k_proj.bias"], sizes["k_proj.weight"])
    largest = max(size for name, size in sizes.items() if name != "output")
    errors = {}
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        difference = (actual[name].double() - value).abs().max().item()
        errors[name] = difference / (sizes[name] if sizes[name] > 1e-9 * largest else largest)
    return errors


def assert_parity(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    """Every result within `tolerance`; a NaN is not."""
    errors = relative_errors(actual, expected)
    beyond = {name: error for name, error in errors.items() if not error <= tolerance}
    assert not beyond, f"relative errors beyond {tolerance}: {beyond}"


def compare(layer, mask_kind: str, batch: int, tokens: int, tolerance: float = 1e-10, grid_size=None) -> None:
    """Output and all gradients of a layer against the formulas, with a mask of `MASKS`."""
    mask, dtype = MASKS[mask_kind](batch, tokens), layer.q_proj.weight.dtype
    hidden_states = make_input(mask, batch, tokens, layer.config.hidden_size).to(dtype)
    cotangent = make_cotangent(mask, hidden_states)
    actual = layer_results(layer, hidden_states, mask, cotangent, grid_size=grid_size)
    expected = reference_results(layer, hidden_states, mask, cotangent, grid_size=grid_size)
    assert_parity(actual, expected, tolerance)
