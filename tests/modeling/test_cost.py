"""Linear and sparse attention, and heads with a number of points: what they never form."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import count_flops

TOKENS = 2048


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns, those of the backward too."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        sizes = [output.numel() for output in tree_leaves(outputs) if isinstance(output, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return outputs


def layer_of(attention, implementation="sdpa", **fields):
    config = PrimalDualConfig(attention=attention, hidden_size=32, num_attention_heads=2, **fields)
    config._attn_implementation = implementation
    return PrimalDualAttention(config)


def largest(layer, mask=None) -> tuple[int, int]:
    hidden_states = torch.randn(1, TOKENS, 32, requires_grad=True)
    with LargestTensor() as recorded:
        layer(hidden_states, mask)[0].sum().backward()
    return recorded.elements, count_flops(layer, hidden_states, mask)


NARROW = {"sparse_window": 64, "sparse_stride": 64}
CHEAP = {
    "linear-bn": {},
    "linear-bn+sh": {},
    "sparse-local": {"attention": "sparse", "sparse_pattern": ["local"], "sparse_window": 128},
    "sparse-union": {"attention": "sparse", "sparse_pattern": ["local", "strided", "fixed"], **NARROW},
    "sparse-bn+sh": NARROW,
    "conv1d-linear": {"attention": "conv1d", "kernel": "linear"},
    "points": {"attention": "bn+sh", "head_points": 64},
    "linear-points": {"attention": "linear-sh", "head_points": 64},
}


@pytest.mark.parametrize(("implementation", "masked"), [("sdpa", False), ("sdpa", True), ("eager", True)])
@pytest.mark.parametrize("name", CHEAP)
def test_no_matrix_of_all_pairs_is_formed(name, implementation, masked):
    mask = None
    if masked:
        mask = torch.ones(1, TOKENS, dtype=torch.bool)
        mask[0, -100:] = False
    layer = layer_of(**{"attention": name, **CHEAP[name]}, implementation=implementation)
    elements, flops = largest(layer, mask)
    assert elements < TOKENS**2 / 4
    # Of all pairs the products alone are 2 * 2 * 32 * TOKENS^2.
    assert flops < 2 * 32 * TOKENS**2


@pytest.mark.parametrize("preset", ["bn", "conv1d", "conv2d+bn"])
def test_no_transform_keeps_softmax_attention_from_being_fused(preset):
    assert largest(layer_of(preset))[0] < TOKENS**2 / 4
    assert largest(layer_of(preset, "eager"))[0] == 2 * TOKENS**2
