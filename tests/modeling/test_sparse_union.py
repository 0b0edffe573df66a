"""The one softmax of a union of sparse patterns: by torch's flash kernel and in plain operations."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hf_primaldual.modeling.sparse_primal_dual import SparsePattern, dense_mask, sparse_softmax
from tests.modeling.cases import needs_compiler, right_padding
from tests.modeling.parity import make_layer

SCALING = 0.4
UNIONS = [("local",), ("local", "strided"), ("fixed",), ("strided", "fixed"), ("fixed", "strided", "local")]
# half, stride and scale.
REACHES = {
    "narrow": (3, 5, 1),
    "itself": (0, 1, 1),
    "wide": (200, 300, 1),
    "many-blocks": (35, 40, 1),
    "pooled": (2, 3, 3),
    "pooled-to-one": (40, 300, 500),
}


def union_inputs(pattern, tokens, masked, dtype=torch.float64):
    """Query, key and value `(batch, heads, tokens or keys, head_dim)`, the mask of keys, and which queries see any."""
    keys = -(-tokens // pattern.scale)
    states = [torch.randn(2, 3, length, 6, dtype=dtype, requires_grad=True) for length in (tokens, keys, keys)]
    mask = right_padding(2, keys) if masked else None
    keep = dense_mask(pattern, tokens, keys, None).expand(2, 1, -1, -1)
    return states, mask, keep if mask is None else keep & mask[:, None, None]


def dense_results(states, keep, cotangent):
    """Output and gradients by a softmax over all pairs; a query that keeps nothing has the output 0."""
    states = [each.detach().double().requires_grad_() for each in states]
    query, key, value = states
    logits = (query @ key.transpose(2, 3) * SCALING).masked_fill(~keep, -torch.inf)
    weights = torch.softmax(logits.masked_fill(~keep.any(-1, keepdim=True), 0), dim=-1) * keep
    output = (weights @ value).transpose(1, 2)
    return output.detach(), *torch.autograd.grad(output, states, cotangent.double())


def union_results(states, mask, pattern, cotangent, fused=True):
    output = sparse_softmax(*states, mask, pattern, SCALING, 0.0, fused)
    return output.detach(), *torch.autograd.grad(output, states, cotangent)


@pytest.mark.parametrize(("tokens", "masked"), [(1, False), (33, True), (111, True)])
@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
@pytest.mark.parametrize("parts", UNIONS, ids="+".join)
def test_union_equals_a_softmax_over_all_pairs(parts, reach, tokens, masked):
    pattern = SparsePattern(parts, *reach)
    states, mask, keep = union_inputs(pattern, tokens, masked)
    cotangent = torch.randn(2, tokens, 3, 6, dtype=torch.float64)
    counts = keep.any(dim=-1).transpose(1, 2).unsqueeze(-1)
    for fused in (True, False):
        # Padded queries that keep nothing have no weights in a union by the flash kernel; elsewhere they don't count.
        counted = torch.ones_like(counts) if fused and len(pattern.rules()) > 1 else counts
        output, *gradients = union_results(states, mask, pattern, cotangent * counted, fused)
        expected = dense_results(states, keep, cotangent * counted)
        torch.testing.assert_close((output * counted, *gradients), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [1e-3, 300.0])
def test_a_component_far_below_the_other_has_no_weight_and_no_nan(size):
    pattern = SparsePattern(("local", "strided"), 3, 5)
    states, mask, keep = union_inputs(pattern, 33, True)
    states = [(size * states[0]).detach().requires_grad_(), *states[1:]]
    cotangent = torch.randn(2, 33, 3, 6, dtype=torch.float64)
    actual, expected = union_results(states, mask, pattern, cotangent), dense_results(states, keep, cotangent)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_the_flash_kernel_serves_the_default_on_a_cpu_and_nothing_else():
    def kernels(implementation="sdpa", **fields):
        layer, hidden_states = make_layer("sparse", implementation, **fields).train(), torch.randn(2, 20, 24)
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            layer(hidden_states)[0].sum().backward()
        return {event.key for event in recorded.key_averages() if "flash_attention_for_cpu" in event.key}

    assert len(kernels()) == 2
    assert not kernels("eager")
    assert not kernels(attention_probs_dropout_prob=0.1)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("fused", [True, False], ids=["flash", "plain"])
def test_compiled_union_at_many_lengths(fused):
    torch._dynamo.reset()
    pattern = SparsePattern(("strided", "fixed", "local"), 3, 5)
    attention = torch.compile(sparse_softmax, fullgraph=True)
    # Below, at and above the widths of the blocks.
    for tokens in (4, 5, 31, 32, 33, 111):
        states, mask, keep = union_inputs(pattern, tokens, True, torch.float32)
        output = attention(*states, mask, pattern, SCALING, 0.0, fused)
        # A padded query that keeps nothing has another output in each form, none of which counts.
        counted = keep.any(dim=-1).transpose(1, 2).unsqueeze(-1)
        cotangent = torch.randn_like(output) * counted
        actual = (output.detach() * counted, *torch.autograd.grad(output, states, cotangent))
        output, *gradients = union_results(states, mask, pattern, cotangent, fused)
        torch.testing.assert_close(actual, (output * counted, *gradients), rtol=1e-5, atol=1e-5)
