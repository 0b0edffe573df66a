"""
Attention-SH on few tokens: one call of the back-end for the heads of all factors.

Of a few dozen tokens a layer's calls cost more than their arithmetic. Here one product, with a matrix for each head,
pools the keys and values of all heads, centres the keys and takes their mean; and in one call of the back-end heads of
fewer points have their last ones masked.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch

from .batch_norm_primal_dual import normalize_queries
from .downsampling_primal_dual import pool_tokens
from .padding_primal_dual import can_look

# By kind of device, up to how many tokens; measured by scripts/benchmarks/short.py on a CPU alone.
SHORT = {"cpu": 64}


class Pooling(NamedTuple):
    """
    What pools the keys and values of all heads: matrices of shape `(2 * heads, points, tokens)`, those of keys first;
    where they centre the keys they have one row more, which gives the keys' mean. Of shape `(heads, 1, points)` what
    each point weighs in that mean; and `(1, heads, 1, points)`, what is added to the logits.
    """

    matrices: torch.Tensor
    shares: torch.Tensor
    mask: torch.Tensor


def pools_by_product(sampling: str, amount_name: str, mask: torch.Tensor | None) -> bool:
    """Whether points are products of the tokens; with padding, where what they are depends on no row's length."""
    return sampling != "conv" if mask is None else (sampling, amount_name) == ("average", "scale")


def are_short(states: torch.Tensor) -> bool:
    """
    Whether states of shape `(batch, tokens, ...)` are few enough, and of at least float32, whose statistics are exact
    as a product; a graph that is recorded makes fewer calls anyway.
    """
    # The length is looked at after the compiler: in an exported graph it would be fixed by that.
    return (
        not torch.compiler.is_compiling()
        and states.shape[1] <= SHORT.get(states.device.type, 0)
        and states.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(states.device.type)
        and can_look(states)
    )


@functools.lru_cache(maxsize=64)
def pooling(
    tokens: int, amounts: tuple[int, ...], centres: bool, dtype: torch.dtype, device: torch.device, **how
) -> Pooling:
    """
    Args:
        tokens (`int`): how many there are.
        amounts (`tuple[int, ...]`): the factor or the number of points of each head.
        centres (`bool`): whether the keys are centred, which no matrix does for rows of different lengths.
        how: as for [`pool_tokens`], and `name`, which of its arguments the amounts are.
    """
    name = how.pop("name")
    # Kept for calls with gradients too.
    with torch.inference_mode(False), torch.no_grad():
        each = torch.eye(tokens, dtype=dtype, device=device).unsqueeze(0)
        means = {amount: pool_tokens(each, None, **{name: amount}, **how)[0][0] for amount in set(amounts)}
        points = max(map(len, means.values()))
        matrices = each.new_zeros(2, len(amounts), points + centres, tokens)
        shares, mask = each.new_zeros(len(amounts), 1, points), each.new_zeros(1, len(amounts), 1, points)
        for head, amount in enumerate(amounts):
            rows, count = means[amount], len(means[amount])
            matrices[:, head, :count] = rows
            shares[head, :, :count] = 1 / count
            mask[:, head, :, count:] = -torch.inf
            if centres:
                matrices[0, head, :count] -= rows.mean(dim=0)
                matrices[0, head, points] = rows.mean(dim=0)
        return Pooling(matrices.flatten(0, 1), shares, mask)


def attend_at_once(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keep: torch.Tensor | None,
    pooled: Pooling,
    fold: tuple | None,
    attend: Callable[..., torch.Tensor],
) -> torch.Tensor:
    """
    Args:
        query, key, value (`torch.Tensor` of shape `(batch, tokens, heads, head_dim)`).
        keep (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for the tokens that count.
        pooled (`Pooling`): from [`pooling`]; it centres where there is a `fold` and all tokens count.
        fold (`tuple`, *optional*): beta, scaling and eps as for `fold_batch_norm`; tensors are `(heads, 1, 1, 1)`.
        attend (`Callable`): the back-end, of queries, keys and values `(batch, heads, tokens, head_dim)` and a mask.

    Returns:
        What the back-end does.
    """
    batch, tokens, heads, _ = query.shape
    points = pooled.mask.shape[-1]
    query = query.permute(2, 0, 1, 3)  # (heads, batch, tokens, head_dim)
    # (2 * heads, tokens, batch, head_dim): of each head all rows of the batch side by side
    states = torch.cat([each.permute(2, 1, 0, 3) for each in (key, value)])
    if keep is not None:
        states = states.masked_fill(~keep.T.unsqueeze(-1), 0)
    states = torch.bmm(pooled.matrices, states.flatten(2)).unflatten(-1, (batch, -1))
    mask, mean = pooled.mask, states[:heads, points:]
    if keep is not None:
        # (heads, points, batch, 1): the share of each window that counts
        share = (pooled.matrices[:heads] @ keep.T.to(states.dtype)).unsqueeze(-1)
        valid = share > 0
        states = (states.unflatten(0, (2, -1)) / torch.where(valid, share, 1)).flatten(0, 1)
        mask = torch.where(valid, 0.0, -torch.inf).to(states.dtype).permute(2, 0, 3, 1)
    keys, values = states[:heads, :points], states[heads:, :points]
    if fold is not None and keep is not None:
        count = valid.sum(dim=1, keepdim=True)
        mean = keys.sum(dim=1, keepdim=True) / count
        keys = keys - mean
        variance = (keys.square() * valid).sum(dim=1, keepdim=True) / count
    elif fold is not None:
        variance = torch.bmm(pooled.shares, keys.square().flatten(2)).unflatten(-1, (batch, -1))
    if fold is not None:
        query = normalize_queries(query, mean.transpose(1, 2), variance.transpose(1, 2), *fold)
    mask = mask.expand(batch, -1, tokens, -1)
    return attend(query.transpose(0, 1), keys.permute(2, 0, 1, 3), values.permute(2, 0, 1, 3), mask)


__all__ = ["SHORT", "are_short", "attend_at_once", "pooling", "pools_by_product"]
