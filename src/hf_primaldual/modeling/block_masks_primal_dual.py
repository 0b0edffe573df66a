"""Sparse patterns as FlexAttention's block masks, which leaves out blocks of pairs in which nothing is kept."""

import functools
import operator

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from .downsampling_primal_dual import WindowOrder
from .padding_primal_dual import can_look
from .sparse_primal_dual import SparsePattern


def block_mask(
    pattern: SparsePattern,
    query: torch.Tensor,
    keys: int,
    mask: torch.Tensor | None = None,
    order: WindowOrder | None = None,
) -> BlockMask:
    """
    Which keys each query sees.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        keys (`int`): how many there are.
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        order (`WindowOrder`, *optional*): the order of the queries in which the pattern holds.
    """
    size = query.shape[2], keys, query.device
    if mask is None and order is None and can_look(query):
        return _of_all_rows(pattern, *size)
    return _made(pattern, *size, mask, order)


@functools.lru_cache(maxsize=16)
def _of_all_rows(pattern: SparsePattern, tokens: int, keys: int, device: torch.device) -> BlockMask:
    # Kept for calls with gradients too.
    with torch.inference_mode(False):
        return _made(pattern, tokens, keys, device)


def _made(pattern, tokens, keys, device, mask=None, order=None) -> BlockMask:
    rules = list(pattern.rules().values())

    def sees(batch, head, query, key):
        place = (query if order is None else order.places[query]) // pattern.scale
        kept = functools.reduce(operator.or_, (rule(place, key) for rule in rules))
        return kept if mask is None else kept & mask[batch, key]

    return create_block_mask(sees, None if mask is None else len(mask), None, tokens, keys, device=device)


__all__ = ["block_mask"]
