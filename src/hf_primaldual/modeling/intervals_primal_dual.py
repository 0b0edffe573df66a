"""Attention-BN where a query's training set is an interval of keys: in causal, local and packed attention."""

from typing import NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .batch_norm_primal_dual import token_statistics
from .memory_primal_dual import recomputed_in_backward

# Tokens whose sums are taken at once, about the mean of all before them.
CHUNK = 64
# How many keys more than one a causal query sees where it divides by the whole power of their deviation.
RAMP = 32


class Intervals(NamedTuple):
    """The keys of each query, from `first` to `last`, both of shape `(batch, queries)` or `(1, queries)`."""

    first: torch.Tensor
    last: torch.Tensor

    @classmethod
    def of_last(cls, key: torch.Tensor) -> "Intervals":
        """Of one query that sees all keys, `(batch, keys, ...)`."""
        first = torch.zeros(1, 1, dtype=torch.long, device=key.device)
        return cls(first, first + (key.shape[1] - 1))

    def keep(self, keys: int) -> torch.Tensor:
        """True where a query sees a key, `(batch or 1, queries, keys)`."""
        place = torch.arange(keys, device=self.first.device)
        return (place >= self.first.unsqueeze(-1)) & (place <= self.last.unsqueeze(-1))


def power_of(count: int | torch.Tensor, scaling: float) -> float | torch.Tensor:
    """
    The power of the variance that a causal query divides by. It grows with the number of keys, from 0 where there is
    one and no variance, to `scaling` (our choice: the paper has no causal attention).
    """
    share = (count - 1) / RAMP
    return scaling * (share.clamp(0, 1) if isinstance(share, torch.Tensor) else min(share, 1))


def to_the_minus(variance: torch.Tensor, power: torch.Tensor | float) -> torch.Tensor:
    """`variance ** -power`, which torch takes four times as long for on a CPU."""
    if isinstance(power, float) and power == 1:
        return variance.reciprocal()
    exponent = variance.log() * -power
    return exponent.exp()


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
        beta = as_states(beta, key)
        return CausalFold.apply(query, key, None, beta, float(scaling), eps, None)[0].flatten(2, 3)
    first, last = intervals
    count = (last - first + 1).view(*first.shape, 1, 1, 1)
    statistics = _of_one_query if first.shape[1] == 1 else _by_prefix_sums
    mean, variance = recomputed_in_backward(lambda keys: statistics(keys, intervals, count), key)
    power = power_of(count, float(scaling)) if is_causal else float(scaling)
    return within_range((query - beta * mean) * to_the_minus(variance + eps, power), query.dtype).flatten(2, 3)


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


def running_statistics(
    key: torch.Tensor, points: torch.Tensor | None = None, size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Mean and biased variance of each key and all before it; or of the `points` of the windows before its own, and its
    window's keys up to it. No rounding depends on a later key, and nothing cancels where the mean is large against the
    deviation: squares are summed about the mean of what comes before a chunk.

    Args:
        key (`torch.Tensor` of shape `(batch, tokens, ...)`).
        points (`torch.Tensor` of shape `(batch, tokens / size, ...)`, *optional*): one for each window.
        size (`int`, *optional*): tokens per window.

    Returns:
        Both of the keys' shape, at least float32, without a gradient.
    """
    chunks = in_chunks(key.detach().to(_wide(key.dtype)), size or CHUNK)  # (batch, chunks, size, ...)
    size, axes = chunks.shape[2], [1] * (key.ndim - 2)
    before = torch.arange(chunks.shape[1], device=key.device).view(1, -1, 1, *axes)
    first, squares_before = chunks[:, :1, :1], None
    if points is None:
        before = before * size
        shift = first + sums_before((chunks.mean(dim=2, keepdim=True) - first) * size) / before.clamp(min=1)
    else:
        mean, variance = running_statistics(points)
        shift = torch.cat((first, mean[:, :-1].unsqueeze(2)), dim=1)
        squares_before = before * nn.functional.pad(variance[:, :-1], (0, 0) * len(axes) + (1, 0)).unsqueeze(2)
    count = (before + torch.arange(1, size + 1, device=key.device).view(size, *axes)).to(chunks.dtype)
    # In place, since nothing of it is on autograd's tape: on a CPU new memory is what this costs.
    centred = chunks - shift
    mean = centred.cumsum(dim=2).div_(count)
    squares = centred.square_().cumsum_(dim=2)
    if points is None:
        of_chunk = squares[:, :, -1:] - mean[:, :, -1:].square() * count[:, :, -1:]
        squares_before = sums_before(of_chunk)
    variance = squares.add_(squares_before).div_(count).addcmul_(mean, mean, value=-1)
    return tuple(states.flatten(1, 2)[:, : key.shape[1]] for states in (mean.add_(shift), variance))


def in_chunks(states: torch.Tensor, size: int) -> torch.Tensor:
    """`(batch, tokens, ...)` to `(batch, chunks, size, ...)`, filled up with zeros."""
    missing = -states.shape[1] % size
    if missing:
        states = nn.functional.pad(states, (0, 0) * (states.ndim - 2) + (0, missing))
    return states.unflatten(1, (-1, size))


def sums_before(states: torch.Tensor) -> torch.Tensor:
    """The sum over the chunks before each, `(batch, chunks, ...)`: a sum less its own would be rounded by that."""
    sums = states.cumsum(dim=1)[:, :-1]
    return nn.functional.pad(sums, (0, 0) * (states.ndim - 2) + (1, 0))


class CausalFold(torch.autograd.Function):
    """
    [`fold_over_intervals`] of a causal sequence, or of the points and keys of causal Attention-SH, with the backward
    in closed form: autograd would keep and visit eight tensors of the keys' size.

    Let dT_i be the gradient of T(q_i) = (q_i - beta mu_i) v_i^-p, v_i = var_i + eps, and u_i = p dT_i T(q_i) / v_i.
    Then what queries i see receives, x being a key or a point,

        dx = sum_i (2 u_i (mu_i - c) - beta dT_i v_i^-p) / n_i  -  (x - c) sum_i 2 u_i / n_i

    with any c: with the last mean little cancels.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(query, key, points, beta, scaling, eps, size):
        mean, variance = running_statistics(key, points, size)
        variance.add_(eps)
        window = size if points is not None else 1
        folded = _divided(torch.addcmul(query.to(mean.dtype), mean, -beta), variance, scaling, window)
        return within_range(folded, query.dtype), mean, variance

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, key, points, beta, ctx.scaling, _, ctx.size = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(key, points, beta, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, *_):
        key, points, beta, folded, mean, variance = ctx.saved_tensors
        size, window = (CHUNK, 1) if points is None else (ctx.size, ctx.size)
        count, power = _powers(key, ctx.scaling, window)
        # A kernel may have left the axes in another order, in which all that follows would be slower.
        of_query = gradient.to(mean.dtype, memory_format=torch.contiguous_format, copy=True)
        weight = (of_query * folded).div_(variance).sum_to_size(key.shape).mul_(2 * power / count)
        of_query = _divided(of_query, variance, ctx.scaling, window)
        centre = mean[:, -1:]
        constant = weight * (mean - centre)
        constant.addcmul_(of_query.sum_to_size(key.shape), -beta / count)
        chunks = [in_chunks(each, size) for each in (constant, weight)]
        totals = [each.sum(dim=2, keepdim=True) for each in chunks]
        after = [sums_before(each.flip(1)).flip(1) for each in totals]
        of_points = None
        if points is None:
            totals = [own + later for own, later in zip(totals, after, strict=True)]
        else:
            of_point, of_later = (each.squeeze(2) for each in after)
            of_points = of_point.addcmul(points - centre, of_later, value=-1).to(points.dtype)
        # The sums over a token's own place and those after it in its chunk, and maybe after that.
        sums = [each.cumsum(dim=2).neg_().add_(each).add_(total) for each, total in zip(chunks, totals, strict=True)]
        of_key, weight = (each.flatten(1, 2)[:, : key.shape[1]] for each in sums)
        of_key.addcmul_(key - centre, weight, value=-1)
        of_beta = -(of_query * mean).sum_to_size(beta.shape) if ctx.needs_input_grad[3] else None
        return of_query.to(folded.dtype), of_key.to(key.dtype), of_points, of_beta, None, None, None


def _powers(key: torch.Tensor, scaling: float, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    How many keys each query of a causal sequence sees, each whole window before its own counted once, and the power:
    `(tokens, 1, ...)`.
    """
    place = torch.arange(key.shape[1], device=key.device)
    seen = place.div(window, rounding_mode="floor") + place % window
    count = (seen + 1).to(_wide(key.dtype)).view(-1, *[1] * (key.ndim - 2))
    return count, power_of(count, scaling)


def _divided(states: torch.Tensor, variance: torch.Tensor, scaling: float, window: int) -> torch.Tensor:
    """Divides what belongs to causal queries, in place. Beyond the ramp a power of one needs no logarithm."""
    _, power = _powers(variance, scaling, window)
    ramp = RAMP * window if scaling == 1 else len(power)
    states[:, :ramp].mul_(to_the_minus(variance[:, :ramp], power[:ramp]))
    states[:, ramp:].div_(variance[:, ramp:])
    return states


def as_states(number: float | torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """A number, or a tensor of them, where `states` are and at least in float32."""
    if isinstance(number, torch.Tensor):
        return number.to(states.device, _wide(states.dtype))
    return torch.full((), number, device=states.device, dtype=_wide(states.dtype))


def within_range(states: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In float16, which `1 / s^2` of keys that hardly vary overflows, its largest number."""
    if dtype == torch.float16:
        largest = torch.finfo(dtype).max
        states = states.clamp(-largest, largest)
    return states.to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


__all__ = [
    "CHUNK",
    "RAMP",
    "CausalFold",
    "Intervals",
    "as_states",
    "fold_over_intervals",
    "in_chunks",
    "power_of",
    "to_the_minus",
    "within_range",
]
