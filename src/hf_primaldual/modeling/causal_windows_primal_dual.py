"""
Causal Attention-SH: a head with factor r is fitted, for query i, on the points of the windows of r tokens that are
complete before i's own window, and on the keys of its own window up to i (our choice: the paper has no causal
attention). Windows count from a row's first real token.
"""

from collections.abc import Iterator

import torch
from torch import nn

from .downsampling_primal_dual import downsample, is_exporting
from .intervals_primal_dual import (
    CausalFold,
    Intervals,
    as_states,
    in_chunks,
    power_of,
    to_the_minus,
    within_range,
)
from .kernels_primal_dual import additive_mask, eager_attention_forward
from .memory_primal_dual import recomputed_in_backward
from .padding_primal_dual import can_look, shift_rows

# Queries that are attended from at once where no kernel knows the pattern, and where one does.
BLOCK = 256
SMALL_BLOCK = 32


def points_of(states: torch.Tensor, scale: int, sampling: str, seed: int) -> torch.Tensor:
    """The point of each whole window, `(batch, windows, heads, head_dim)`."""
    whole = states[:, : states.shape[1] // scale * scale]
    points, _ = downsample(whole.flatten(2), None, scale=scale, sampling=sampling, seed=seed)
    return points.unflatten(2, states.shape[2:])


def causal_downsampled_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: int,
    scaling: float,
    *,
    fold: tuple | None = None,
    sampling: str = "average",
    seed: int = 0,
    dropout: float = 0.0,
) -> torch.Tensor:
    """
    Causal Attention-SH of rows that begin with a real token; what is padded behind is seen by padding alone.

    Args:
        query, key, value (`torch.Tensor` of shape `(batch, tokens, heads, head_dim)`).
        scale (`int`): tokens per window.
        scaling (`float`): of the logits.
        fold (`tuple`, *optional*): beta, scaling and eps of Attention-BN, by the statistics of the points that a query
            sees, each once.
        sampling, seed: how a window becomes a point, as for [`downsample`].
        dropout (`float`): of the maps.

    Returns:
        `torch.Tensor` of shape `(batch, tokens, heads, head_dim)`.
    """
    tokens = query.shape[1]
    block = scale * max(SMALL_BLOCK // scale, 1)
    query, key, value = (in_chunks(states, block).flatten(1, 2) for states in (query, key, value))
    points = [points_of(states, scale, sampling, seed) for states in (key, value)]
    if fold is not None:
        beta, power, eps = fold
        query, *_ = CausalFold.apply(query, key, points[0], as_states(beta, key), float(power), eps, scale)
    if dropout == 0 and _has_flash(query):
        output = WindowedFlash.apply(query, key, value, *points, scale, scaling)[0]
    else:
        output = _in_blocks(query, key, value, *points, scale, scaling, dropout)
    return output[:, :tokens]


def few_queries(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    intervals: Intervals,
    scale: int,
    scaling: float,
    *,
    fold: tuple | None = None,
    sampling: str = "average",
    seed: int = 0,
    dropout: float = 0.0,
    module: nn.Module | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    [`causal_downsampled_attention`] of queries whose keys are in a cache, or whose maps are wanted.

    Args:
        query (`torch.Tensor` of shape `(batch, queries, heads, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`).
        intervals (`Intervals`): from each row's first real token to each query's own place.
        module (`nn.Module`, *optional*): the layer, if the maps are wanted.

    Returns:
        The output of shape `(batch, queries, heads, head_dim)`; and the maps over windows and tokens, of shape
        `(batch, heads, queries, windows + keys)`, or `None`.
    """
    # What comes before a row's first real token sees itself alone.
    first, last = intervals.first.amax(dim=1, keepdim=True), intervals.last
    low, high = 0, key.shape[1]
    if module is None and can_look(last):
        low, high = max(int(last.min()) - scale + 1, 0), int(last.max()) + 1
    starts = first[:, 0].expand(len(key))
    turned = [shift_rows(states, starts) for states in (key, value)]
    keys, values = (
        torch.cat((points_of(rows, scale, sampling, seed), states[:, low:high]), dim=1)
        for rows, states in zip(turned, (key, value), strict=True)
    )
    window = (last - first).div(scale, rounding_mode="floor").unsqueeze(-1)  # (batch or 1, queries, 1)
    place = torch.arange(low, high, device=key.device)
    own = ((place - first.unsqueeze(-1)).div(scale, rounding_mode="floor") == window) & (place <= last.unsqueeze(-1))
    complete = torch.arange(key.shape[1] // scale, device=key.device) < window
    keep = torch.cat((complete, own), dim=-1)  # (batch or 1, queries, windows + keys)
    if fold is not None:
        query = _folded_by_mask(query, keys, keep, fold)
    query, keys, values = (states.transpose(1, 2) for states in (query, keys, values))
    if module is not None:
        mask = additive_mask(keep, query).unsqueeze(1)
        return eager_attention_forward(module, query, keys, values, mask, scaling, dropout)
    output = nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=keep.unsqueeze(1), dropout_p=dropout, scale=scaling
    )
    return output.transpose(1, 2), None


def _folded_by_mask(query, keys, keep, fold) -> torch.Tensor:
    """As `CausalFold`, of any points that are kept."""
    beta, power, eps = fold
    count = keep.sum(dim=-1, keepdim=True)  # (batch or 1, queries, 1)
    wide = keys.to(torch.promote_types(keys.dtype, torch.float32)).flatten(2)
    share = keep.to(wide.dtype) / count
    # About a mean of some of the points, from which those of the others are not far.
    centre = share[:, :1] @ wide
    centred = wide - centre
    mean = share @ centred
    variance = (share @ centred.square() - mean.square()).clamp(min=0)
    mean, variance = ((states).unflatten(2, keys.shape[2:]) for states in (mean + centre, variance))
    power = power_of(count, float(power)).unsqueeze(-1)
    return within_range((query - beta * mean) * to_the_minus(variance + eps, power), query.dtype)


def _in_blocks(query, key, value, point_key, point_value, scale, scaling, dropout) -> torch.Tensor:
    """By torch's sdpa, some hundred queries at a time with the points and keys that any of them sees."""
    size, outputs = scale * max(BLOCK // scale, 1), []
    for start in range(0, query.shape[1], size):
        stop = min(start + size, query.shape[1])
        windows = torch.arange(stop // scale, device=query.device)
        place = torch.arange(start, stop, device=query.device)
        own = place.div(scale, rounding_mode="floor")
        keep = torch.cat(
            (
                windows < own.unsqueeze(-1),
                (own == own.unsqueeze(-1)) & (place <= place.unsqueeze(-1)),
            ),
            dim=-1,
        )

        def attend(query, key, value, point_key, point_value, rows=slice(start, stop), keep=keep):
            seen = slice(keep.shape[1] - keep.shape[0])
            states = (
                query[:, rows],
                torch.cat((point_key[:, seen], key[:, rows]), dim=1),
                torch.cat((point_value[:, seen], value[:, rows]), dim=1),
            )
            return nn.functional.scaled_dot_product_attention(
                *(each.transpose(1, 2) for each in states), attn_mask=keep, dropout_p=dropout, scale=scaling
            ).transpose(1, 2)

        # Kept, the points of all blocks would be as many as there are pairs of queries and points.
        outputs.append(recomputed_in_backward(attend, query, key, value, point_key, point_value))
    return torch.cat(outputs, dim=1)


def _has_flash(states: torch.Tensor) -> bool:
    """Whether torch's flash kernel of a CPU can be called, which returns its log-sum-exp and takes another back."""
    return (
        states.device.type == "cpu"
        and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward")
        and not (torch.compiler.is_compiling() or is_exporting() or torch.jit.is_tracing())
    )


class WindowedFlash(torch.autograd.Function):
    """
    One softmax over two kinds of points by calls of a flash kernel: for own windows, blocks of them with a bias that
    keeps them apart; for the windows before, some hundred queries at a time with the points that any of them sees.

    With `lse_c` and `out_c` of each kind, `lse = logsumexp_c lse_c` and `out = sum_c exp(lse_c - lse) out_c`. The
    kernel's backward takes weights from `exp(logits - lse)` and the sums over all keys from `out`: with those of the
    whole softmax it returns a call's share of the gradients.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(query, key, value, point_key, point_value, scale, scaling):
        own = OwnWindows(query, scale)
        output, lse = own.restored(*_attend(*map(own.blocks, (query, key, value)), own.bias, scaling))
        parts = [
            _attend(query[:, rows], point_key[:, :seen], point_value[:, :seen], bias, scaling)
            for rows, seen, bias in windows_before(query, scale)
        ]
        if parts:
            points = [torch.cat(each, dim=1) for each in zip(*parts, strict=True)]
            later = output[:, scale:], lse[:, scale:]
            both = torch.logaddexp(later[1], points[1])
            joint = sum((part - both).exp() * states for states, part in (later, points)).to(query.dtype)
            output = torch.cat((output[:, :scale], joint), dim=1)
            lse = torch.cat((lse[:, :scale], both), dim=1)
        return output, lse

    @staticmethod
    def setup_context(ctx, inputs, output):
        *states, ctx.scale, ctx.scaling = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*states, *output)

    @staticmethod
    def backward(ctx, gradient, _):
        query, key, value, point_key, point_value, *outcome = ctx.saved_tensors
        own = OwnWindows(query, ctx.scale)
        blocks = map(own.blocks, (gradient, query, key, value, *outcome))
        of_query, of_key, of_value = own.restored(*_backward(*blocks, own.bias, ctx.scaling))
        of_points = torch.zeros_like(point_key), torch.zeros_like(point_value)
        for rows, seen, bias in windows_before(query, ctx.scale):
            points = point_key[:, :seen], point_value[:, :seen]
            of_rows = [each[:, rows] for each in (gradient, query, *outcome)]
            share, *shares = _backward(*of_rows[:2], *points, *of_rows[2:], bias, ctx.scaling)
            of_query[:, rows] += share
            for total, part in zip(of_points, shares, strict=True):
                total[:, :seen] += part
        return of_query, of_key, of_value, *of_points, None, None


class OwnWindows:
    """Each query's own window up to it: blocks of windows as rows of a batch, with a bias that keeps them apart."""

    def __init__(self, query: torch.Tensor, scale: int):
        self.batch, self.size = len(query), scale * max(SMALL_BLOCK // scale, 1)
        place = torch.arange(self.size, device=query.device)
        window = place.div(scale, rounding_mode="floor")
        keep = (window == window.unsqueeze(-1)) & (place <= place.unsqueeze(-1))
        self.bias = additive_mask(keep, query)

    def blocks(self, states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, heads, ...)` as `(batch * blocks, tokens per block, heads, ...)`."""
        return states.unflatten(1, (-1, self.size)).flatten(0, 1)

    def restored(self, *states: torch.Tensor) -> list[torch.Tensor]:
        return [each.unflatten(0, (self.batch, -1)).flatten(1, 2) for each in states]


def windows_before(query: torch.Tensor, scale: int) -> Iterator[tuple[slice, int, torch.Tensor]]:
    """
    The windows before each query's: some hundred queries, how many points any of them sees, and a bias that hides
    those that are not before a query's window, `(queries, points)`. Those of the first window see none.
    """
    tokens, size = query.shape[1], scale * max(BLOCK // scale, 1)
    if tokens <= scale:
        return
    # The points of a block's own windows come last, and look the same in each block.
    own = torch.arange(size // scale - 1, device=query.device)
    window = torch.arange(size, device=query.device).div(scale, rounding_mode="floor")
    hidden = additive_mask(own < window.unsqueeze(-1), query)
    bias = nn.functional.pad(hidden, (tokens // scale, 0))
    for start in range(scale, tokens, size):
        stop = min(start + size, tokens)
        before, seen = start // scale, (stop - 1) // scale
        first = tokens // scale - before
        yield slice(start, stop), seen, bias[: stop - start, first : first + seen]


def _attend(query, key, value, bias, scaling) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, `(batch, tokens, heads, head_dim)`, and log-sum-exps, `(batch, tokens, heads, 1)`."""
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        *(states.transpose(1, 2) for states in (query, key, value)), attn_mask=bias[None, None], scale=scaling
    )
    return output.transpose(1, 2), lse.unsqueeze(-1).transpose(1, 2)


def _backward(gradient, query, key, value, output, lse, bias, scaling) -> list[torch.Tensor]:
    """Shares of the gradients of queries, keys and values, of the shapes of `_attend`."""
    states = [each.transpose(1, 2) for each in (gradient, query, key, value, output)]
    shares = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *states, lse.squeeze(-1).transpose(1, 2), 0.0, False, attn_mask=bias[None, None], scale=scaling
    )
    return [share.transpose(1, 2) for share in shares]


__all__ = ["causal_downsampled_attention", "few_queries"]
