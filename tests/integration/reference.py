"""The attention functions as transformers' models call them, written from the formulas, in loops."""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tests.reference import naive


def downsampled(states, valid, scale, prefix, grid, how):
    """The points of a head's windows and which count; the frames of a video, if `grid` has three sides, one by one."""
    if grid is None or len(grid) == 2:
        return naive.downsampled(states, valid, scale, None, prefix, grid, how)[:2]
    pieces = zip(states[prefix:].chunk(grid[0]), valid[prefix:].chunk(grid[0]), strict=True)
    frames = [naive.downsampled(*frame, scale, None, 0, grid[1:], how)[:2] for frame in pieces]
    points, kept = zip((states[:prefix], valid[:prefix]), *frames, strict=True)
    return torch.cat(points), torch.cat(kept)


def row_attention(
    query, key, value, valid, scale=None, statistics=None, prefix=0, grid=None, sampling="average", seed=0
):
    """One head of one row; `statistics` holds beta, the power of the deviation and eps, or is None."""
    how = scale, prefix, grid, {"sampling": sampling, "seed": seed, "filters": {}}
    (key, kept), (value, _) = (downsampled(states, valid, *how) for states in (key, value))
    if statistics is not None:
        query, key = naive.batch_normalize(query, key, kept, *statistics)
    return naive.softmax_attention(query, key[kept], value[kept], torch.ones(len(query), int(kept.sum())).bool())


def register_naive(scales=None, **how) -> str:
    """
    Registers the naive attention with these choices, under a name that is returned. Models get their padding through
    transformers' own masks for sdpa.
    """

    def naive_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
        usual = query.shape[-1] ** -0.5
        if scaling == 1:
            # The layer has scaled its queries.
            query = query / usual
        assert scaling in (None, 1) or abs(scaling - usual) < 1e-12
        per_group = query.shape[1] // key.shape[1]
        rows = []
        for row in range(len(query)):
            valid = torch.ones(key.shape[2]).bool() if attention_mask is None else attention_mask[row, 0, 0]
            # A model may add its own mask to the logits.
            valid = valid if valid.dtype == torch.bool else valid == 0
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
