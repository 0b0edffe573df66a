"""The attention functions as transformers' models call them, written from the formulas, in loops."""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tests.reference import naive


def windows_on_grid(valid, scale, grid):
    """The valid tokens of each square of `scale x scale` patches, row by row, perhaps none."""
    height, width = grid
    return [
        [
            row * width + column
            for row in range(top, min(top + scale, height))
            for column in range(left, min(left + scale, width))
            if valid[row * width + column]
        ]
        for top in range(0, height, scale)
        for left in range(0, width, scale)
    ]


def downsample(states, valid, scale, prefix, grid, sampling):
    """The tokens of the prefix, and one point for each window of the others; and which of all these are kept."""
    rest = valid[prefix:]
    windows = naive.windows_by_scale(rest, scale) if grid is None else windows_on_grid(rest, scale, grid)
    points, kept = naive.sample(states[prefix:], windows, sampling)
    return torch.cat((states[:prefix], points)), torch.cat((valid[:prefix], kept))


def row_attention(query, key, value, valid, scale=None, statistics=None, prefix=0, grid=None, sampling="average"):
    """One head of one row; `statistics` holds beta, the power of the deviation and eps, or is None."""
    kept = valid
    if scale is not None:
        how = scale, prefix, grid, sampling
        (key, kept), (value, _) = downsample(key, valid, *how), downsample(value, valid, *how)
    if statistics is not None:
        beta, power, eps = statistics
        if power in (0, 1):
            query, key = naive.batch_normalize(query, key, kept, beta, bool(power), eps)
        else:
            mean = key[kept].mean(0)
            deviation = ((key[kept] - mean).square().mean(0) + eps) ** (power / 2)
            query, key = (query - beta * mean) / deviation, (key - beta * mean) / deviation
    return naive.softmax_attention(query, key[kept], value[kept], torch.ones(len(query), int(kept.sum())).bool())


def register_naive(scales=None, **how) -> str:
    """
    Registers the naive attention with these choices, under a name that is returned. Models get their padding through
    transformers' own masks for sdpa.
    """

    def naive_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
        assert scaling is None or abs(scaling - query.shape[-1] ** -0.5) < 1e-12
        per_group = query.shape[1] // key.shape[1]
        rows = []
        for row in range(len(query)):
            valid = torch.ones(key.shape[2]).bool() if attention_mask is None else attention_mask[row, 0, 0]
            heads = [
                row_attention(
                    query[row, head],
                    key[row, head // per_group],
                    value[row, head // per_group],
                    valid,
                    scale=None if scales is None else scales[head],
                    **how,
                )
                for head in range(query.shape[1])
            ]
            rows.append(torch.stack(heads, dim=1))
        return torch.stack(rows), None

    AttentionInterface.register("naive", naive_attention)
    AttentionMaskInterface.register("naive", sdpa_mask)
    return "naive"
