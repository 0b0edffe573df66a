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
    query,
    key,
    value,
    valid,
    scale=None,
    statistics=None,
    prefix=0,
    grid=None,
    sampling="average",
    seed=0,
    over=None,
):
    """One head of one row; `statistics` holds beta, the power of the deviation and eps, or is None."""
    how = scale, prefix, grid, {"sampling": sampling, "seed": seed, "filters": {}}
    (key, kept), (value, _) = (downsampled(states, valid, *how) for states in (key, value))
    if statistics is not None:
        query, key = naive.batch_normalize(query, key, kept, *statistics)
    seen = torch.ones(len(query), int(kept.sum())).bool()
    return naive.softmax_attention(query, key[kept], value[kept], seen, over)


def interval_attention(query, key, value, keep, scale=None, is_causal=True, statistics=None, over=None, **how):
    """One head of one row whose queries see an interval of keys each; padding, which sees nothing, its own."""
    seen = [places.nonzero().flatten().tolist() or [i] for i, places in enumerate(keep, len(key) - len(query))]
    first, last = [places[0] for places in seen], [places[-1] for places in seen]
    return naive.interval_attention(query, key, value, first, last, scale or 1, statistics, is_causal, over)


def register_naive(scales=None, **how) -> str:
    """
    Registers the naive attention with these choices, under a name that is returned. Models get their padding through
    transformers' own masks for sdpa.
    """

    def naive_attention(module, query, key, value, attention_mask, **kwargs):
        # Loops are no work for a GPU.
        with torch.device("cpu"):
            mask = None if attention_mask is None else attention_mask.cpu()
            output = on_processor(module, query.cpu(), key.cpu(), value.cpu(), mask, **kwargs)
        return output.to(query.device), None

    def on_processor(module, query, key, value, attention_mask, scaling=None, is_causal=None, **kwargs):
        usual = query.shape[-1] ** -0.5
        if scaling == 1 and not hasattr(module, "q_norm"):
            # The layer has scaled its queries.
            query, scaling = query / usual, usual
        over = 1 / (scaling or usual)
        per_group, (queries, keys) = query.shape[1] // key.shape[1], (query.shape[2], key.shape[2])
        is_causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
        keep = torch.ones(len(query), 1, queries, keys).bool()
        if attention_mask is not None:
            # A model may add its own mask to the logits.
            is_boolean = attention_mask.dtype == torch.bool
            keep = (attention_mask if is_boolean else attention_mask == 0).expand_as(keep)
        elif is_causal:
            keep = keep.tril(keys - queries)
        window = kwargs.get("sliding_window") is not None
        is_packed = bool((keep != keep[:, :, :1]).any())
        rows = []
        for row in range(len(query)):
            heads = []
            for head in range(query.shape[1]):
                states = query[row, head], key[row, head // per_group], value[row, head // per_group]
                scale = None if scales is None or window else scales[head]
                if is_causal or window or is_packed:
                    seen = keep[row, 0]
                    heads.append(interval_attention(*states, seen, scale, is_causal, over=over, **how))
                else:
                    heads.append(row_attention(*states, keep[row, 0, 0], scale, over=over, **how))
            rows.append(torch.stack(heads, dim=1))
        return torch.stack(rows)

    AttentionInterface.register("naive", naive_attention)
    AttentionMaskInterface.register("naive", sdpa_mask)
    return "naive"
