"""Linear and sparse attention, and heads with a number of points: what they never form, and how they grow."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.measure import count_flops, count_peak_memory

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


def largest(layer, mask=None) -> int:
    hidden_states = torch.randn(1, TOKENS, 32, requires_grad=True)
    with LargestTensor() as recorded:
        layer(hidden_states, mask)[0].sum().backward()
    return recorded.elements


NARROW = {"sparse_window": 64, "sparse_stride": 64}
CHEAP = {
    "linear-bn": {},
    "linear-bn+sh": {},
    "sparse-local": {"attention": "sparse", "sparse_pattern": ["local"], "sparse_window": 128},
    "sparse-union": {"attention": "sparse", "sparse_pattern": ["local", "strided", "fixed"], **NARROW},
    "sparse-bn+sh": NARROW,
    "conv1d-linear": {"attention": "conv1d", "kernel": "linear"},
}


@pytest.mark.parametrize(("implementation", "masked"), [("sdpa", False), ("sdpa", True), ("eager", True)])
@pytest.mark.parametrize("name", CHEAP)
def test_no_matrix_of_all_pairs_is_formed(name, implementation, masked):
    mask = None
    if masked:
        mask = torch.ones(1, TOKENS, dtype=torch.bool)
        mask[0, -100:] = False
    layer = layer_of(**{"attention": name, **CHEAP[name]}, implementation=implementation)
    assert largest(layer, mask) < TOKENS * TOKENS / 4


@pytest.mark.parametrize("preset", ["bn", "conv1d", "conv2d+bn"])
def test_no_transform_keeps_softmax_attention_from_being_fused(preset):
    assert largest(layer_of(preset)) < TOKENS * TOKENS / 4


def test_the_matrix_of_softmax_attention_is_seen():
    assert largest(layer_of("softmax", "eager")) == 2 * TOKENS * TOKENS


GROWING = {
    "linear-bn": {},
    "sparse-bn-local": {"attention": "sparse-bn", "sparse_pattern": ["local"]},
    "sparse-local-fixed": {"attention": "sparse", "sparse_pattern": ["local", "fixed"], "sparse_stride": 512},
    "points": {"attention": "bn+sh", "head_points": 64},
    "linear-points": {"attention": "linear-sh", "head_points": 64},
}


@pytest.mark.parametrize("name", GROWING)
def test_memory_and_work_grow_linearly(name):
    def costs(tokens):
        with FakeTensorMode():
            layer, hidden_states = layer_of(**{"attention": name, **GROWING[name]}), torch.randn(1, tokens, 32)
            peak = count_peak_memory(lambda: layer(hidden_states)[0].sum().backward())
            return peak, count_flops(layer, hidden_states, backward=True)

    for short, long in zip(costs(1024), costs(16384), strict=True):
        assert long <= 17 * short
