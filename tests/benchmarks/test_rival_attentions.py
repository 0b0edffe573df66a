"""Every rival computes what its paper says, by naive formulas, NumPy or transformers' own eager code."""

import numpy as np
import pytest
import torch
from rivals.attentions import FourierMixing, LinformerAttention, NystromAttention, PvtV2Attention, SegformerAttention
from torch import nn
from transformers import PvtV2Config
from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention
from transformers.models.pvt_v2.modeling_pvt_v2 import PvtV2SelfAttention

WIDTH, HEADS = 12, 2


def naive_attention(query, key, value, project):
    """Head by head; `(tokens, width)` each."""
    size = query.shape[-1] // HEADS
    outputs = []
    for rows in (slice(head * size, (head + 1) * size) for head in range(HEADS)):
        scores = query[:, rows] @ key[:, rows].T / size**0.5
        outputs.append(scores.softmax(dim=-1) @ value[:, rows])
    return project(torch.cat(outputs, dim=-1))


def test_linformer_attends_over_mixtures_of_keys_and_values():
    layer, hidden_states = LinformerAttention(WIDTH, HEADS, tokens=21, points=5), torch.randn(2, 21, WIDTH)
    for row, expected in zip(hidden_states, layer(hidden_states)[0], strict=True):
        key, value = layer.key_mixture @ layer.k_proj(row), layer.value_mixture @ layer.v_proj(row)
        assert key.shape == (5, WIDTH)
        torch.testing.assert_close(naive_attention(layer.q_proj(row), key, value, layer.o_proj), expected)


def test_fnet_is_the_real_part_of_numpys_transform():
    hidden_states = torch.randn(2, 21, WIDTH)
    expected = np.fft.fft2(hidden_states.numpy(), axes=(1, 2)).real
    np.testing.assert_allclose(FourierMixing()(hidden_states)[0].numpy(), expected, rtol=1e-4, atol=1e-4)
    assert FourierMixing()(hidden_states.bfloat16())[0].dtype == torch.bfloat16


def test_nystromformer_fused_equals_transformers():
    layer, hidden_states = NystromAttention(WIDTH, HEADS, 320), torch.randn(2, 320, WIDTH)
    nn.init.normal_(layer.conv.weight)
    (expected,) = NystromformerSelfAttention.forward(layer, hidden_states)
    torch.testing.assert_close(layer(hidden_states)[0], layer.o_proj(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ratio", [None, 1, 2], ids=["pooled", "whole", "reduced"])
def test_pvtv2_fused_equals_transformers(ratio):
    config = PvtV2Config(linear_attention=ratio is None, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    eager = PvtV2SelfAttention(config, WIDTH, HEADS, ratio or 1)
    layer = PvtV2Attention(WIDTH, HEADS, ratio, prefix=0)
    layer.load_state_dict(eager.state_dict())
    hidden_states = torch.randn(2, 6 * 4, WIDTH)
    torch.testing.assert_close(layer(hidden_states, grid_size=(6, 4))[0], eager(hidden_states, 6, 4)[0])


def parts(layer) -> tuple:
    """The convolution of the grid, the norm after it, and the four projections."""
    if isinstance(layer, PvtV2Attention):
        return layer.spatial_reduction, layer.layer_norm, layer.query, layer.key, layer.value, layer.proj
    reduction = layer.sequence_reduction.reduction
    projections = (layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj)
    return reduction.sequence_reduction, reduction.layer_norm, *projections


@pytest.mark.parametrize("kind", [PvtV2Attention, SegformerAttention])
def test_keys_are_the_prefix_and_a_convolved_grid(kind):
    layer, hidden_states = kind(WIDTH, HEADS, ratio=2, prefix=1), torch.randn(1, 1 + 6 * 4, WIDTH)
    reduce, norm, query, key, value, project = parts(layer)
    row = hidden_states[0]
    windows = row[1:].view(3, 2, 2, 2, WIDTH).transpose(1, 2).reshape(6, 2, 2, WIDTH)
    points = norm(torch.einsum("nhwi,oihw->no", windows, reduce.weight) + reduce.bias)
    points = torch.cat([row[:1], points])
    expected = naive_attention(query(row), key(points), value(points), project)
    torch.testing.assert_close(layer(hidden_states, grid_size=(6, 4))[0][0], expected)


RIVALS = [
    LinformerAttention(WIDTH, HEADS, 64),
    NystromAttention(WIDTH, HEADS, 64),
    FourierMixing(),
    PvtV2Attention(WIDTH, HEADS, 2, prefix=0),
    SegformerAttention(WIDTH, HEADS, 2, prefix=0),
]
REFUSED = [
    (lambda: RIVALS[0](torch.randn(1, 20, WIDTH)), "built for 64 tokens, got 20"),
    (lambda: NystromAttention(WIDTH, HEADS, tokens=100), "multiple of Nystromformer's 64 landmarks, got 100"),
]
REFUSED += [
    (
        lambda layer=layer: layer(torch.randn(1, 64, WIDTH), torch.ones(1, 64).bool(), grid_size=(8, 8)),
        "no way to leave",
    )
    for layer in RIVALS
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_it_cannot_do_is_refused_and_not_ignored(call, message):
    with pytest.raises(ValueError, match=message):
        call()
