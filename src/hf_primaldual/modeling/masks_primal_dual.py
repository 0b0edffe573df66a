"""Which keys a query sees: padding, or an interval of the keys; what is neither is refused."""

import torch
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, sdpa_mask

from .intervals_primal_dual import Intervals
from .padding_primal_dual import can_look
from .training_sets_primal_dual import check_mask


def attention_mask_of(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int | torch.Tensor = 0,
    mask_function=bidirectional_mask_function,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    use_vmap: bool = False,
    allow_is_causal_skip: bool = True,
    device: torch.device | str = "cpu",
    config=None,
    **kwargs,
) -> torch.Tensor | None:
    """
    The mask function registered with transformers' `AttentionMaskInterface`, for
    [`~hf_primaldual.integration.attention.primal_dual_attention`].

    Without one, transformers drops padding in silence for a registered attention function.

    Args:
        q_length, kv_length (`int`): number of queries and keys.
        q_offset, kv_offset (`int` or `torch.Tensor`): places of the first of them.
        mask_function (`Callable`): which keys the model wants a query to see.
        attention_mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for a real token.
        local_size (`int`, *optional*): of a window.
        use_vmap (`bool`): the model has put functions of its own over those of transformers.

    Returns:
        Where every query sees all keys but the padding, a `torch.BoolTensor` of shape `(batch, kv_length)`; else the
        first and the last key of each query, a `torch.IntTensor` of shape `(batch or 1, 1, q_length, 2)`; or `None`
        for all keys, or in causal attention for all up to the query's own. Where queries that are not causal are not
        the same tokens as the keys, it is transformers' own mask for sdpa.

    Raises:
        ValueError: when the keys of a query are no interval, or when a row has no real token.
    """
    if mask_function is bidirectional_mask_function:
        if isinstance(q_length, int) and isinstance(kv_length, int) and q_length != kv_length:
            # A pooling head may ask for the mask of its own attention; a layer that dispatches is refused by name.
            return sdpa_mask(
                batch_size,
                q_length,
                kv_length,
                mask_function=mask_function,
                attention_mask=attention_mask,
                device=device,
            )
        if attention_mask is None:
            return None
        mask = check_mask(attention_mask, attention_mask)
        # Its convolutions read the mask, too.
        return mask[:, None, None] if getattr(config, "model_type", None) == "lasr_encoder" else mask
    own = torch.arange(q_length, device=device).unsqueeze(0) + (q_offset - kv_offset)
    real = None if attention_mask is None else _real_tokens(attention_mask.to(device), kv_length, kv_offset)
    is_causal = mask_function is causal_mask_function
    # What transformers itself composes of windows; one of a static cache may not skip its mask.
    is_window = local_size is not None and not use_vmap and (allow_is_causal_skip or q_length == 1)
    if not is_causal and not is_window:
        if torch.compiler.is_compiling():
            raise ValueError(
                "The model asked for a mask of its own; whether it shows a query an interval of keys can't be seen "
                "under torch.compile, which needs `attn_implementation='sdpa'`."
            )
        keep = sdpa_mask(
            batch_size,
            q_length,
            kv_length,
            q_offset,
            kv_offset,
            mask_function,
            attention_mask,
            allow_is_causal_skip=False,
            use_vmap=use_vmap,
            device=device,
        )
        return _as_mask(intervals_of(keep, own))
    if is_causal:
        starts = 0 if real is None else real.int().argmax(dim=1)
        is_whole = real is None or (can_look(real) and not starts.any())
        at_the_end = isinstance(q_offset, int) and q_length + q_offset == kv_length + kv_offset
        if is_whole and at_the_end and (q_length == 1 or q_length == kv_length):
            return None
        first, last = torch.zeros_like(own), own
    else:
        # Rows differ, if at all, by their padding.
        rows = 1 if attention_mask is None else batch_size
        first, last = (_furthest(mask_function, rows, own, kv_offset, kv_length, way) for way in (False, True))
    if real is not None:
        start = real.int().argmax(dim=1, keepdim=True)
        end = kv_length - 1 - real.flip(1).int().argmax(dim=1, keepdim=True)
        # Padding sees itself; in causal attention what is padded behind is seen by padding alone anyway.
        is_padding = own < start if is_causal else (own < start) | (own > end)
        first = torch.where(is_padding, own, torch.maximum(first, start))
        last = own if is_causal else torch.where(is_padding, own, torch.minimum(last, end))
    return _as_mask(Intervals(*torch.broadcast_tensors(first, last)))


# Marks the mask as ours. transformers passes a mask of four axes on as it is.
_MARK = torch.int32


def _as_mask(seen: Intervals) -> torch.Tensor:
    return torch.stack(seen, dim=-1).unsqueeze(1).to(_MARK)


def _real_tokens(attention_mask: torch.Tensor, keys: int, offset) -> torch.Tensor:
    """The mask of the keys that are there, of rows whose real tokens lie together."""
    missing = keys - attention_mask.shape[1]
    if isinstance(offset, int):
        attention_mask, missing = attention_mask[:, offset:], missing + offset
    elif missing < 0:
        attention_mask = attention_mask.index_select(1, torch.arange(keys, device=attention_mask.device) + offset)
    real = torch.nn.functional.pad(attention_mask.bool(), (0, max(missing, 0)))[:, :keys]
    if can_look(real):
        if not real.any(dim=1).all():
            rows = (~real.any(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"`attention_mask` must keep at least one token in every row, not so in rows {rows}.")
        if (real[:, 1:] & ~real[:, :-1]).sum(dim=1).add(real[:, 0]).gt(1).any():
            raise ValueError(
                "`attention_mask` has padding between real tokens; the keys that a query of a causal or local model "
                "sees must be an interval: pad in front or behind, or use `attn_implementation='sdpa'`."
            )
    return real


def _furthest(mask_function, batch: int, own: torch.Tensor, offset, keys: int, forwards: bool) -> torch.Tensor:
    """The last key in a direction that each query sees, found by halving, since the keys that it sees lie together."""
    rows = torch.arange(batch, device=own.device).unsqueeze(-1)
    seen = own.expand(batch, -1)
    unseen = torch.full_like(seen, keys if forwards else -1)
    for _ in range(int(keys).bit_length() + 1):
        # Rounded towards what is seen.
        middle = (seen + unseen + (not forwards)).div(2, rounding_mode="floor")
        sees = mask_function(rows, 0, own + offset, middle + offset)
        seen, unseen = torch.where(sees, middle, seen), torch.where(sees, unseen, middle)
    return seen


def intervals_of(keep: torch.Tensor, own: torch.Tensor) -> Intervals:
    """
    The first and the last key that each query sees.

    Args:
        keep (`torch.BoolTensor` of shape `(batch, heads, queries, keys)`): heads may be one.
        own (`torch.LongTensor` of shape `(1, queries)`): the queries' places among the keys. A query that sees
            nothing, in the padding, is taken to see its own.

    Raises:
        ValueError: when they are no intervals, or not the same in each head.
    """
    keys = keep.shape[-1]
    of_head = keep[:, 0]
    first, last = of_head.int().argmax(dim=-1), keys - 1 - of_head.flip(-1).int().argmax(dim=-1)
    count = of_head.sum(dim=-1)
    if (keep != keep[:, :1]).any() or not ((count == last - first + 1) | (count == 0)).all():
        _refuse(keep, "lets a query see keys that are no interval, or differs between heads")
    return Intervals(*(torch.where(count == 0, own, places) for places in (first, last)))


def _refuse(attention_mask: torch.Tensor, why: str) -> None:
    raise ValueError(
        f"`attention_mask` of shape {tuple(attention_mask.shape)} {why}; the primal-dual attentions know padding and "
        "intervals of keys: pass a mask of shape (batch, tokens), or use `attn_implementation='sdpa'`."
    )


def seen_keys(
    attention_mask: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    is_causal: bool,
    start: int | torch.Tensor | None = None,
) -> torch.Tensor | Intervals | None:
    """
    What an attention layer was given as its mask, as the keys that its queries see.

    Args:
        attention_mask (`torch.Tensor`, *optional*): that of `attention_mask_of`; or one that the model or its user
            made: of shape `(batch, keys)`; or of one that broadcasts to `(batch, heads, queries, keys)`, boolean or
            added to the logits.
        query, key (`torch.Tensor` of shape `(batch, heads, queries, head_dim)` and `(batch, heads, keys, head_dim)`).
        start (`int` or `torch.Tensor`, *optional*): the place of the first query among the keys; by default queries
            are at the end.

    Returns:
        A `torch.BoolTensor` of shape `(batch, keys)` for queries that all see the same keys, `Intervals` for those
        that do not, or `None` for all keys, in causal attention for all up to a query's own, one query being the last.

    Raises:
        ValueError: for a mask of another shape, that differs between heads, is a bias, or shows a query keys that are
            no interval. Under `torch.compile`, where values can't be looked at, for any whose shape or dtype would
            allow that.
    """
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is None:
        if not is_causal or queries in (1, keys):
            return None
        raise ValueError(
            f"`attention_mask` must be given for {queries} causal queries with {keys} keys in a cache, of which "
            "nobody says which ones they see."
        )
    if attention_mask.dim() == 4 and attention_mask.dtype == _MARK:
        return Intervals(*attention_mask[:, 0].long().unbind(dim=-1))
    if attention_mask.dim() == 2:
        # Of a boolean one `attention_mask_of` has looked at the values, once for all layers.
        looked_at = attention_mask.dtype == torch.bool and not is_causal
        mask = attention_mask if looked_at else check_mask(attention_mask, key[:, 0])
        if mask is None or not is_causal:
            return mask if not is_causal else seen_keys(None, query, key, is_causal)
        own = torch.arange(keys - queries, keys, device=key.device).unsqueeze(0)
        starts = _real_tokens(mask, keys, 0).int().argmax(dim=1, keepdim=True)
        return Intervals(torch.where(own < starts, own, starts), own.expand(len(mask), -1))
    if attention_mask.dim() != 4 or attention_mask.shape[-1] != keys:
        _refuse(attention_mask, f"does not broadcast to (batch, heads, {queries}, {keys})")
    is_boolean = attention_mask.dtype == torch.bool
    if torch.compiler.is_compiling():
        if is_causal or attention_mask.shape[1:3] != (1, 1) or not is_boolean:
            _refuse(attention_mask, "may be more than padding, which can't be seen under torch.compile")
        return attention_mask[:, 0, 0].expand(len(key), -1)
    if attention_mask.requires_grad:
        _refuse(attention_mask, "is learned, a bias")
    if not is_boolean:
        # Padding is added as the dtype's least number, minus infinity, or in older code -10000.
        if not ((attention_mask == 0) | (attention_mask <= -1e4)).all():
            _refuse(attention_mask, "is added to the logits and holds more than 0 and very negative numbers, a bias")
        attention_mask = attention_mask == 0
    if not is_causal and (attention_mask == attention_mask[:, :1, :1]).all():
        return check_mask(attention_mask[:, 0, 0].expand(len(key), -1), key[:, 0])
    start = keys - queries if start is None else start
    own = torch.arange(queries, device=key.device).unsqueeze(0) + start
    return intervals_of(attention_mask.expand(len(key), -1, queries, -1), own)


__all__ = ["attention_mask_of", "intervals_of", "seen_keys"]
