"""
Each attention in the few lines of its formula, in loops and in float64 if its inputs are: the specification.

Nothing here is fast, folded, batched or shared between variants, and nothing is imported from the package. Shapes
carry no batch: x [N, W] is one row without its padding, weights are those of `nn.Linear`.
"""

import torch


def softmax_attention(q, k, v):
    """h_i = sum_j softmax_j(q_i . k_j / sqrt(D)) v_j, q [N, D], k and v [M, D]."""
    return torch.softmax(q @ k.T / q.shape[-1] ** 0.5, dim=-1) @ v


def batch_normalize(q, k, beta, scaling, eps):
    """T(x) = (x - beta mu) / sqrt(var + eps) of queries and keys, by the keys' statistics (Definition 1)."""
    mu = k.mean(0)
    deviation = ((k - mu).square().mean(0) + eps).sqrt() if scaling else 1
    return (q - beta * mu) / deviation, (k - beta * mu) / deviation


def windows_by_scale(x, valid, scale):
    """Average of each window's valid tokens; a window with none is left out (Definition 2)."""
    starts = range(0, len(x), scale)
    kept = [x[s : s + scale][valid[s : s + scale]] for s in starts]
    return torch.stack([window.mean(0) for window in kept if len(window)])


def windows_by_points(x, valid, points):
    """The row up to its last valid token, cut into `points` parts as numpy.array_split does, averaged likewise."""
    length = int(valid.nonzero().max()) + 1
    parts = zip(torch.tensor_split(x[:length], points), torch.tensor_split(valid[:length], points), strict=True)
    return torch.stack([part[keep].mean(0) for part, keep in parts if keep.any()])


def strided_by_scale(x, valid, scale):
    """The first valid token of each window."""
    kept = [x[s : s + scale][valid[s : s + scale]] for s in range(0, len(x), scale)]
    return torch.stack([window[0] for window in kept if len(window)])


def strided_by_points(x, valid, points):
    """The first valid token of each of the `points` parts of the row up to its last valid token."""
    length = int(valid.nonzero().max()) + 1
    parts = zip(torch.tensor_split(x[:length], points), torch.tensor_split(valid[:length], points), strict=True)
    return torch.stack([part[keep][0] for part, keep in parts if keep.any()])


def attention_row(x, valid, weights, num_heads, bn=None, scales=None, points=None, sampling="average"):
    """
    One row of the layer. `weights` maps q, k, v, o to (weight, bias); `bn` is (one beta per head, scaling, eps) or
    None; `scales` or `points` hold one entry per head, or are None for plain attention.
    """
    dim = x.shape[-1] // num_heads
    heads = []
    for h in range(num_heads):
        rows = slice(h * dim, (h + 1) * dim)
        if scales is not None:
            seen = (windows_by_scale if sampling == "average" else strided_by_scale)(x, valid, scales[h])
        elif points is not None:
            seen = (windows_by_points if sampling == "average" else strided_by_points)(x, valid, points[h])
        else:
            seen = x[valid]
        q = x @ weights["q"][0][rows].T + weights["q"][1][rows]
        k = seen @ weights["k"][0][rows].T + weights["k"][1][rows]
        v = seen @ weights["v"][0][rows].T + weights["v"][1][rows]
        if bn is not None:
            q, k = batch_normalize(q, k, bn[0][h], *bn[1:])
        heads.append(softmax_attention(q, k, v))
    return torch.cat(heads, dim=-1) @ weights["o"][0].T + weights["o"][1]


def attention_layer(x, mask, weights, num_heads, **choices):
    """The layer on a batch x [B, N, W] with mask [B, N] or None, row by row."""
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
    return torch.stack(
        [attention_row(row, valid, weights, num_heads, **choices) for row, valid in zip(x, mask, strict=True)]
    )
