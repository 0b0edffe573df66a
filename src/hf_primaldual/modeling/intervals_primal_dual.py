"""Attention-BN where a query's training set is an interval of keys: in causal, local and packed attention."""

from typing import NamedTuple

import torch
from torch import nn

from .memory_primal_dual import recomputed_in_backward
from .transforms_primal_dual import token_statistics

# Tokens whose sums are taken at once, about the mean of all before them.
CHUNK = 64
# How many keys more than one a causal query sees where it divides by the whole power of their deviation.
RAMP = 32


class Intervals(NamedTuple):
    """The keys of each query, from `first` to `last`, both of shape `(batch, queries)` or `(1, queries)`."""

    first: torch.Tensor
    last: torch.Tensor

    def keep(self, keys: int) -> torch.Tensor:
        """True where a query sees a key, `(batch or 1, queries, keys)`."""
        place = torch.arange(keys, device=self.first.device)
        return (place >= self.first.unsqueeze(-1)) & (place <= self.last.unsqueeze(-1))


def power_of(count: torch.Tensor, scaling: float) -> torch.Tensor:
    """
    The power of the variance that a causal query divides by. It grows with the number of keys, from 0 where there is
    one and no variance, to `scaling` (our choice: the paper has no causal attention).
    """
    return scaling * ((count - 1) / RAMP).clamp(0, 1)


def fold_over_intervals(
    query: torch.Tensor,
    key: torch.Tensor,
    intervals: Intervals | None,
    beta: float | torch.Tensor,
    scaling: bool | float,
    eps: float,
    is_causal: bool = True,
) -> torch.Tensor:
    """
    Queries with which softmax attention over intervals equals Attention-BN with the statistics of each query's own:

        q_i <- (q_i - beta mu_i) / (var_i + eps)^p

    with p the `scaling`, in causal attention that of [`power_of`]. Softmax ignores what is constant over the keys of a
    query, so these stay as they are.

    Args:
        query (`torch.Tensor` of shape `(batch, queries, heads, head_dim)`).
        key (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`): or fewer heads, each for a group of
            neighbouring query heads.
        intervals (`Intervals`, *optional*): by default each query sees its own key, in the same place, and all before.
        beta (`float`, or `torch.Tensor` that broadcasts to `(heads, head_dim)` of the keys): the weight of the mean.
        scaling (`bool` or `float`): whether to divide by the deviation, or the power of it that is divided by.
        eps (`float`): added to the variance.

    Returns:
        As `query`; in float16 within its range.
    """
    heads = key.shape[2]
    # (batch, queries, key heads, group, head_dim), and the keys with a group of one.
    query, key = query.unflatten(2, (heads, -1)), key.unsqueeze(3)
    if isinstance(beta, torch.Tensor):
        beta = beta.unsqueeze(-2)  # (heads, 1, head_dim or 1)
    if intervals is None:
        beta = torch.as_tensor(beta, device=key.device, dtype=_wide(key.dtype))
        return CausalFold.apply(query, key, beta, float(scaling), eps)[0].flatten(2, 3)
    first, last = intervals
    count = (last - first + 1).view(*first.shape, 1, 1, 1)
    statistics = _of_one_query if first.shape[1] == 1 else _by_prefix_sums
    mean, variance = recomputed_in_backward(lambda keys: statistics(keys, intervals, count), key)
    power = power_of(count, float(scaling)) if is_causal else float(scaling)
    return within_range((query - beta * mean) * (variance + eps) ** -power, query.dtype).flatten(2, 3)


def _of_one_query(key: torch.Tensor, intervals: Intervals, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of a single interval in each row, `(batch, 1, ...)`."""
    mask = intervals.keep(key.shape[1])[:, 0].expand(key.shape[0], -1)
    mean, variance, _ = token_statistics(key.flatten(2), mask)
    return mean.view(-1, 1, *key.shape[2:]), variance.view(-1, 1, *key.shape[2:])


def _by_prefix_sums(key: torch.Tensor, intervals: Intervals, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the intervals, `(batch, queries, ...)`, as differences of sums in float64."""
    wide = key.double()
    # What is padding may hold anything.
    sums = torch.stack((wide, wide.square())).cumsum(dim=2)
    sums = nn.functional.pad(sums, (0, 0) * (key.ndim - 2) + (1, 0))
    totals = _rows(sums, intervals.last + 1) - _rows(sums, intervals.first)
    mean, squares = totals / count
    variance = (squares - mean.square()).clamp(min=0)
    return mean.to(_wide(key.dtype)), variance.to(_wide(key.dtype))


def _rows(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The tokens in places `index`, `(batch, queries)` or `(1, queries)`, of `(2, batch, tokens, ...)`."""
    if index.shape[0] == 1:
        return states[:, :, index[0]]
    return states[:, torch.arange(states.shape[1], device=index.device).unsqueeze(-1), index]


def in_chunks(states: torch.Tensor, size: int) -> torch.Tensor:
    """`(batch, tokens, ...)` to `(batch, chunks, size, ...)`, filled up with zeros."""
    return nn.functional.pad(states, (0, 0) * (states.ndim - 2) + (0, -states.shape[1] % size)).unflatten(
        1, (-1, size)
    )


def running_statistics(key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Mean and biased variance of each key and all before it. No rounding depends on a later key, and nothing cancels
    where the mean is large against the deviation.

    Args:
        key (`torch.Tensor` of shape `(batch, tokens, ...)`).

    Returns:
        Both of the same shape, at least float32.
    """
    chunks = in_chunks(key.to(_wide(key.dtype)), CHUNK)
    first = chunks[:, :1, :1]
    sums = (chunks.mean(dim=2, keepdim=True) - first) * CHUNK
    before = torch.arange(chunks.shape[1], device=key.device).view(1, -1, 1, *[1] * (key.ndim - 2)) * CHUNK
    shift = first + sums_before(sums) / before.clamp(min=1)
    mean, squares, count = continued(chunks, before, shift)
    variance = (squares + sums_before(squares[:, :, -1:])) / count
    return tuple(states.flatten(1, 2)[:, : key.shape[1]] for states in (mean, variance))


def sums_before(states: torch.Tensor) -> torch.Tensor:
    """The sum over the chunks before each, `(batch, chunks, ...)`: a sum less its own would be rounded by that."""
    sums = states.cumsum(dim=1)[:, :-1]
    return nn.functional.pad(sums, (0, 0) * (states.ndim - 2) + (1, 0))


def continued(chunks: torch.Tensor, before: torch.Tensor, shift: torch.Tensor):
    """
    Statistics of what came before a chunk, `before` points of mean `shift`, and of the chunk up to each of its tokens.

    Args:
        chunks (`torch.Tensor` of shape `(batch, chunks, size, ...)`).
        before (`torch.Tensor` of shape `(1, chunks, 1, ...)`).
        shift (`torch.Tensor` of shape `(batch, chunks, 1, ...)`): anything where nothing came before.

    Returns:
        The mean; the sum of the squared distances from the mean, but for those of what came before from its own; both
        of the chunks' shape; and the count.
    """
    size = chunks.shape[2]
    within = torch.arange(1, size + 1, device=chunks.device).view(size, *[1] * (chunks.ndim - 3))
    count = (before + within).to(chunks.dtype)
    centred = chunks - shift
    total = centred.cumsum(dim=2)
    mean = total / count
    return mean + shift, centred.square().cumsum(dim=2) - total * mean, count


class CausalFold(torch.autograd.Function):
    """
    [`fold_over_intervals`] of a causal sequence, with the backward in closed form: autograd would keep and visit eight
    tensors of the keys' size.

    Let dT_i be the gradient of T(q_i) = (q_i - beta mu_i) v_i^-p, v_i = var_i + eps, and u_i = p dT_i T(q_i) / v_i:

        dk_j = sum_{i >= j} (2 u_i (mu_i - c) - beta dT_i v_i^-p) / i  -  (k_j - c) sum_{i >= j} 2 u_i / i

    with any c: with the last mean little cancels.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(query, key, beta, scaling, eps):
        mean, variance = running_statistics(key)
        variance = variance + eps
        folded = (query - beta * mean) * variance ** -_powers(key, scaling)[1]
        return within_range(folded, query.dtype), mean, variance

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, key, beta, ctx.scaling, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(key, beta, *output)

    @staticmethod
    def backward(ctx, gradient, *_):
        key, beta, folded, mean, variance = ctx.saved_tensors
        count, power = _powers(key, ctx.scaling)
        gradient = gradient.to(mean.dtype)
        of_query = gradient * variance**-power
        of_mean = (beta / count) * of_query
        weight = (gradient * folded / variance).sum_to_size(key.shape) * (2 * power / count)
        centre = mean[:, -1:]
        of_key = sums_from_here(weight * (mean - centre) - of_mean.sum_to_size(key.shape))
        of_key = of_key - (key - centre) * sums_from_here(weight)
        of_beta = -(of_query * mean).sum_to_size(beta.shape) if ctx.needs_input_grad[2] else None
        return of_query.to(folded.dtype), of_key.to(key.dtype), of_beta, None, None


def _powers(key: torch.Tensor, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How many keys each query of a causal sequence sees, and the power, both `(tokens, 1, ...)`."""
    count = torch.arange(1, key.shape[1] + 1, device=key.device, dtype=_wide(key.dtype))
    count = count.view(-1, *[1] * (key.ndim - 2))
    return count, power_of(count, scaling)


def sums_from_here(states: torch.Tensor) -> torch.Tensor:
    """The sum of each token's states and those of all after it, `(batch, tokens, ...)`."""
    chunks = in_chunks(states, CHUNK)
    after = chunks.sum(dim=2, keepdim=True).flip(1).cumsum(dim=1).flip(1)
    return (chunks - chunks.cumsum(dim=2) + after).flatten(1, 2)[:, : states.shape[1]]


def within_range(states: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In float16, which `1 / s^2` of keys that hardly vary overflows, its largest number."""
    if dtype == torch.float16:
        largest = torch.finfo(dtype).max
        states = states.clamp(-largest, largest)
    return states.to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


__all__ = ["CHUNK", "RAMP", "Intervals", "continued", "fold_over_intervals", "in_chunks", "power_of", "within_range"]
