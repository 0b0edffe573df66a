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


def naive_attention(query, key, value, project, heads=HEADS):
    """Head by head; `(tokens, width)` each."""
    size = query.shape[-1] // heads
    outputs = []
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        scores = query[:, rows] @ key[:, rows].T / size**0.5
        outputs.append(scores.softmax(dim=-1) @ value[:, rows])
    return project(torch.cat(outputs, dim=-1))


def test_linformer_attends_over_mixtures_of_keys_and_values():
    layer, hidden_states = LinformerAttention(WIDTH, HEADS, tokens=21, points=5), torch.randn(2, 21, WIDTH)
    output, maps = layer(hidden_states)
    assert maps is None
    for row, expected in zip(hidden_states, output, strict=True):
        key, value = layer.key_mixture @ layer.k_proj(row), layer.value_mixture @ layer.v_proj(row)
        assert key.shape == (5, WIDTH)
        torch.testing.assert_close(naive_attention(layer.q_proj(row), key, value, layer.o_proj), expected)
    with pytest.raises(ValueError, match="built for 21 tokens, got 20"):
        layer(torch.randn(1, 20, WIDTH))


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
    with pytest.raises(ValueError, match="multiple of Nystromformer's 64 landmarks, got 100"):
        NystromAttention(WIDTH, HEADS, tokens=100)


@pytest.mark.parametrize("ratio", [None, 1, 2], ids=["pooled", "whole", "reduced"])
def test_pvtv2_fused_equals_transformers(ratio):
    config = PvtV2Config(linear_attention=ratio is None, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    eager = PvtV2SelfAttention(config, WIDTH, HEADS, ratio or 1)
    layer = PvtV2Attention(WIDTH, HEADS, ratio, prefix=0)
    layer.load_state_dict(eager.state_dict())
    hidden_states = torch.randn(2, 6 * 4, WIDTH)
    expected = eager(hidden_states, 6, 4)[0]
    torch.testing.assert_close(layer(hidden_states, grid_size=(6, 4))[0], expected)


@pytest.mark.parametrize("kind", [PvtV2Attention, SegformerAttention])
def test_keys_are_the_prefix_and_a_convolved_grid(kind):
    layer, hidden_states = kind(WIDTH, HEADS, ratio=2, prefix=1), torch.randn(1, 1 + 6 * 4, WIDTH)
    output = layer(hidden_states, grid_size=(6, 4))[0][0]
    if kind is PvtV2Attention:
        reduce, norm, names = layer.spatial_reduction, layer.layer_norm, ("query", "key", "value", "proj")
    else:
        reduction = layer.sequence_reduction.reduction
        reduce, norm, names = (
            reduction.sequence_reduction,
            reduction.layer_norm,
            ("q_proj", "k_proj", "v_proj", "o_proj"),
        )
    query, key, value, project = (getattr(layer, name) for name in names)
    row = hidden_states[0]
    grid = row[1:].view(6, 4, WIDTH)
    points = [row[0]]
    for down in range(3):
        for across in range(2):
            window = grid[2 * down : 2 * down + 2, 2 * across : 2 * across + 2]
            points.append(norm(torch.einsum("hwi,oihw->o", window, reduce.weight) + reduce.bias))
    points = torch.stack(points)
    torch.testing.assert_close(naive_attention(query(row), key(points), value(points), project), output)


@pytest.mark.parametrize(
    "layer",
    [
        LinformerAttention(WIDTH, HEADS, 64),
        NystromAttention(WIDTH, HEADS, 64),
        FourierMixing(),
        PvtV2Attention(WIDTH, HEADS, 2, prefix=0),
        SegformerAttention(WIDTH, HEADS, 2, prefix=0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_mask_is_refused_and_not_ignored(layer):
    with pytest.raises(ValueError, match="no way to leave padding out"):
        layer(torch.randn(1, 64, WIDTH), torch.ones(1, 64, dtype=torch.bool), grid_size=(8, 8))
