"""Attention-SH's downsampling (Definition 2): windows of tokens, along a sequence or on a grid, and their points."""

from typing import NamedTuple

import torch
from torch import nn


def is_exporting() -> bool:
    """Whether a graph is exported."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def is_dynamic(length: int) -> bool:
    """Whether a graph is exported or traced for any length: no branch may look at it, which would fix it."""
    return torch.jit.is_tracing() or (isinstance(length, torch.SymInt) and is_exporting())


def _pools_in_one_call(states: torch.Tensor) -> bool:
    """
    Whether torch's pooling, which reads `(batch, tokens, channels)` as channels last, takes the place of plain means:
    on a CPU half of their time, and less for a ragged length. Elsewhere that is not measured; a compiler fuses means.
    """
    return states.device.type == "cpu" and not torch.compiler.is_compiling()


def equal_windows(states: torch.Tensor, size: int, dim: int = 1, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Averages of consecutive windows of `size` along `dim`; a ragged last one is averaged over what it has."""
    if states.ndim == 3 and dtype is None and _pools_in_one_call(states):
        return nn.functional.avg_pool1d(states.mT, size, ceil_mode=True, count_include_pad=False).mT
    length = states.shape[dim]
    whole = length // size
    pooled = states.narrow(dim, 0, whole * size).unflatten(dim, (whole, size)).mean(dim=dim + 1, dtype=dtype)
    if whole * size == length:
        return pooled
    rest = states.narrow(dim, whole * size, length - whole * size).mean(dim=dim, keepdim=True, dtype=dtype)
    return torch.cat((pooled, rest), dim=dim)


def even_windows(states: torch.Tensor, points: int, dim: int = 1) -> torch.Tensor:
    """Averages of `points` consecutive windows along `dim`, as even as possible: the first ones are one longer."""
    length = states.shape[dim]
    size, longer = divmod(length, points)
    if longer == 0:
        return equal_windows(states, size, dim)
    split = longer * (size + 1)
    longer_ones = equal_windows(states.narrow(dim, 0, split), size + 1, dim)
    return torch.cat((longer_ones, equal_windows(states.narrow(dim, split, length - split), size, dim)), dim=dim)


def window_members(
    mask: torch.Tensor, scale: int | None = None, points: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Which tokens each window of each row holds, for rows of different lengths.

    A row ends at its last valid token, so a padded row has the windows that it would have alone.

    Args:
        mask (`torch.BoolTensor` of shape `(batch, tokens)`): true for a real token.
        scale (`int`): tokens per window, the last one ragged; or
        points (`int`): number of windows per row, as even as possible; a shorter row gets one for each token.

    Returns:
        Token indices and their validity, both of shape `(batch, windows, tokens per window)`.
    """
    tokens = mask.shape[1]
    positions = torch.arange(tokens, device=mask.device)
    if scale is not None:
        size = min(scale, tokens)
        starts = positions[::size].unsqueeze(0)
        sizes = torch.full_like(starts, size)
    else:
        ends = ((positions + 1) * mask).amax(dim=1, keepdim=True)
        size = -(-tokens // points)
        window = torch.arange(points, device=mask.device)
        short, longer = ends // points, ends % points
        starts = window * short + torch.minimum(window, longer)
        sizes = short + (window < longer)
    within = torch.arange(size, device=mask.device)
    members = starts.unsqueeze(-1) + within
    inside = (within < sizes.unsqueeze(-1)) & (members < tokens)
    members = members.clamp(max=tokens - 1).expand(mask.shape[0], -1, -1)
    valid = inside & mask.gather(1, members.flatten(1)).view(members.shape)
    return members, valid


def downsample(
    hidden_states: torch.Tensor,
    mask: torch.Tensor | None,
    scale: int | None = None,
    points: int | None = None,
    sampling: str = "average",
    seed: int = 0,
    filters: torch.Tensor | None = None,
    grid_size: tuple[int, int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Fewer points to fit a head on (Definition 2). Average pooling commutes with the affine projections to keys and
    values, so it is the layer's input that is pooled.

    Windows are counted from the first token; one without a valid token is masked, and one with some averages those.
    On a grid they are squares of `scale x scale` tokens, or `points` rectangles as even as possible, row by row.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`): the layer's input.
        mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for a real token.
        scale (`int`): tokens per window; or
        points (`int`): number of windows, whatever the length.
        sampling (`str`): `"average"`; `"stride"` for the first valid token of each window; `"random"` for one of them,
            drawn by `seed` and the window's place; `"conv"` for a strided convolution, channel by channel.
        filters (`torch.Tensor` of shape `(scale, width)`, on a grid `(scale * scale, width)`): those of the
            convolution.
        grid_size (`tuple[int, int]`, *optional*): height and width of the grid that the tokens fill row by row.

    Returns:
        The points of shape `(batch, points, width)`, and which of them count, `(batch, points)`, or `None` for all.
    """
    tokens = hidden_states.shape[1]
    if grid_size is None and is_dynamic(tokens) and scale != 1:
        if scale is None or sampling not in ("average", "conv"):
            what = "`head_points`" if scale is None else f"`sampling={sampling!r}`"
            raise ValueError(
                f"{what} cannot be exported or traced for any length: export it for a fixed one, or use `head_scales` "
                "with `sampling='average'` or 'conv'."
            )
        if mask is None:
            mask = torch.ones(hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device)
        if sampling == "average":
            filters = hidden_states.new_full((scale, 1), 1 / scale)
        return convolve_windows(hidden_states, mask, filters)
    if scale == 1 or tokens == 0 or (points is not None and points >= tokens):
        return hidden_states, mask
    if grid_size is not None:
        if sampling == "average" and mask is None:
            return _average_grid(hidden_states, grid_size, scale, points), None
        if scale is not None and sampling != "conv":
            scale = min(scale, max(grid_size))
        # Brought into the order of the windows, each filled up to one length, they are windows of a sequence.
        order = grid_windows(grid_size, scale, points, hidden_states.device)
        kept = (order >= 0) if mask is None else mask[:, order.flatten()].unflatten(1, order.shape) & (order >= 0)
        kept = kept.expand(hidden_states.shape[0], -1, -1).flatten(1)
        return downsample(
            hidden_states[:, order.clamp(min=0).flatten()], kept, order.shape[1], None, sampling, seed, filters
        )
    return SAMPLINGS[sampling](hidden_states, mask, scale, points, seed, filters)


def average(hidden_states, mask, scale, points, seed=None, filters=None):
    """The average of each window's valid tokens; arguments and result as for [`downsample`]."""
    if mask is None:
        return (even_windows(hidden_states, points) if scale is None else equal_windows(hidden_states, scale)), None
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    if scale is None:
        return _average_of(hidden_states, *window_members(mask, scale, points))
    # In float32 at least: of a window with few valid tokens both are far below what float16 holds.
    share = equal_windows(mask.unsqueeze(-1).to(dtype), scale)
    pooled = equal_windows(hidden_states.masked_fill(~mask.unsqueeze(-1), 0).to(dtype), scale)
    return (pooled / torch.where(share > 0, share, 1)).to(hidden_states.dtype), share.squeeze(-1) > 0


def first(hidden_states, mask, scale, points, seed=None, filters=None):
    """The first valid token of each window."""
    members, valid = window_members(_all_valid(hidden_states, mask), scale, points)
    return _average_of(hidden_states, *_nth(members, valid, 0))


def drawn(hidden_states, mask, scale, points, seed, filters=None):
    """A valid token of each window, drawn by the seed and the window's place."""
    members, valid = window_members(_all_valid(hidden_states, mask), scale, points)
    chosen = pseudo_random(members.shape[1], seed, members.device).view(1, -1, 1)
    return _average_of(hidden_states, *_nth(members, valid, chosen % valid.sum(dim=-1, keepdim=True).clamp(min=1)))


def convolved(hidden_states, mask, scale, points, seed, filters):
    """A strided convolution of each window, channel by channel."""
    return convolve_windows(hidden_states, _all_valid(hidden_states, mask), filters)


# How a window of tokens becomes one point.
SAMPLINGS = {"average": average, "stride": first, "random": drawn, "conv": convolved}


def _all_valid(hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool) if mask is None else mask


def _nth(members: torch.Tensor, valid: torch.Tensor, chosen: torch.Tensor | int) -> tuple[torch.Tensor, torch.Tensor]:
    """The members at which as many valid ones were counted as chosen."""
    place = ((valid.cumsum(dim=-1) == chosen + 1) & valid).int().argmax(dim=-1, keepdim=True)
    return members.gather(-1, place), valid.gather(-1, place)


def _average_of(
    hidden_states: torch.Tensor, members: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The averages of the valid ones among `members`, `(batch, windows, tokens per window)`, and whether any is."""
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    # An embedding is a gather of rows whose backward is parallel.
    rows = members + torch.arange(members.shape[0], device=members.device).view(-1, 1, 1) * hidden_states.shape[1]
    gathered = nn.functional.embedding(rows, hidden_states.flatten(0, 1))
    total = gathered.masked_fill(~valid.unsqueeze(-1), 0).sum(dim=2, dtype=dtype)
    count = valid.sum(dim=-1, keepdim=True).clamp(min=1)
    return (total / count).to(hidden_states.dtype), valid.any(dim=-1)


def _grid_counts(grid_size: tuple[int, int], points: int) -> tuple[int, int]:
    """How many windows down and across a grid make at most `points` of them, as square as they can be."""
    height, width = grid_size
    down = min(max(round((points * height / width) ** 0.5), 1), height, points)
    return down, min(points // down, width)


def _average_grid(
    hidden_states: torch.Tensor, grid_size: tuple[int, int], scale: int | None, points: int | None
) -> torch.Tensor:
    """Averages of rectangles: along one axis, and of those along the other."""
    grid = hidden_states.unflatten(1, grid_size)
    if points is None and _pools_in_one_call(grid):
        maps = grid.permute(0, 3, 1, 2)  # (batch, width, grid_height, grid_width)
        pooled = nn.functional.avg_pool2d(maps, scale, ceil_mode=True, count_include_pad=False)
        return pooled.permute(0, 2, 3, 1).flatten(1, 2)
    if points is None:
        return equal_windows(equal_windows(grid, scale, dim=2), scale, dim=1).flatten(1, 2)
    down, across = _grid_counts(grid_size, points)
    return even_windows(even_windows(grid, across, dim=2), down, dim=1).flatten(1, 2)


def _axis_windows(length: int, size: int | None, count: int | None, device) -> torch.Tensor:
    """Which places along an axis each window of `size`, or of `count` windows, holds; -1 where it is filled up."""
    if count is None:
        starts = torch.arange(0, length, size, device=device)
        sizes = torch.full_like(starts, size)
    else:
        window = torch.arange(count, device=device)
        short, longer = divmod(length, count)
        starts = window * short + window.clamp(max=longer)
        sizes, size = short + (window < longer).long(), short + (longer > 0)
    within = torch.arange(size, device=device)
    places = starts.unsqueeze(-1) + within
    return torch.where((within < sizes.unsqueeze(-1)) & (places < length), places, -1)


def grid_windows(
    grid_size: tuple[int, int], scale: int | None = None, points: int | None = None, device=None
) -> torch.Tensor:
    """
    Which tokens each window of a grid holds, row by row.

    Returns:
        Token indices of shape `(windows, tokens per window)`, -1 where a window is filled up to the largest one.
    """
    counts = (None, None) if points is None else _grid_counts(grid_size, points)
    rows, columns = (
        _axis_windows(length, scale, count, device) for length, count in zip(grid_size, counts, strict=True)
    )
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    return torch.where((rows >= 0) & (columns >= 0), rows * grid_size[1] + columns, -1).flatten(2).flatten(0, 1)


class WindowOrder(NamedTuple):
    """
    Queries in the order of the windows of keys, each with as many places as the fullest, the prefix's tokens first.

    `tokens` holds the token at each place, where a window is filled up any of them; `places` the place of each token.
    """

    tokens: torch.Tensor
    places: torch.Tensor


def window_order(tokens: int, grid_size: tuple[int, int] | None, scale: int, prefix: int, device) -> WindowOrder:
    """The order in which as many queries after another lie in the window of one key as a window holds."""
    if grid_size is None:
        windows = _axis_windows(tokens - prefix, scale, None, device)
        places = torch.arange(tokens - prefix, device=device)
    else:
        windows = grid_windows(grid_size, scale, device=device)
        row, column = (torch.arange(length, device=device) for length in grid_size)
        across = -(-grid_size[1] // scale)
        window = (row // scale).unsqueeze(-1) * across + column // scale
        places = (window * scale**2 + (row % scale).unsqueeze(-1) * scale + column % scale).flatten()
    size = windows.shape[1]
    in_front = torch.arange(prefix, device=device)
    order = torch.cat((in_front.repeat_interleave(size), windows.clamp(min=0).flatten() + prefix))
    return WindowOrder(order, torch.cat((in_front * size, places + prefix * size)))


def pool_tokens(
    hidden_states: torch.Tensor, mask: torch.Tensor | None, *, prefix: int = 0, **how
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    [`downsample`] with the first `prefix` tokens kept apart: they stay as they are, in front of the points.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
        mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for a real token.
        prefix (`int`): how many tokens pass.
        how: what [`downsample`] is told.

    Returns:
        The prefix and the points of shape `(batch, prefix + points, width)`, and which of them count, or `None`.
    """
    if prefix == 0 or how.get("scale") == 1:
        return downsample(hidden_states, mask, **how)
    pooled, kept = downsample(hidden_states[:, prefix:], None if mask is None else mask[:, prefix:], **how)
    pooled = torch.cat((hidden_states[:, :prefix], pooled), dim=1)
    if kept is None:
        return pooled, None
    in_front = kept.new_ones(kept.shape[0], prefix) if mask is None else mask[:, :prefix]
    return pooled, torch.cat((in_front, kept), dim=1)


def convolve_windows(
    hidden_states: torch.Tensor, mask: torch.Tensor, filters: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    A convolution with a stride of its own length. A window with fewer valid tokens is scaled up by what it lacks, so
    that filters of one over the scale average, wherever the padding lies.
    """
    scale, tokens = len(filters), hidden_states.shape[1]
    # Exported for any length there are empty windows at the end: a number that may be one would be a branch.
    count = tokens // scale + 2 if is_dynamic(tokens) else -(-tokens // scale)

    def windows_of(states):
        filled = nn.functional.pad(states, (0, 0, 0, count * scale - tokens))
        # As a reshape it would need a proof that the length divides.
        return (
            filled.unfold(1, scale, scale).movedim(-1, 2) if is_dynamic(tokens) else filled.unflatten(1, (-1, scale))
        )

    windows = windows_of(hidden_states.masked_fill(~mask.unsqueeze(-1), 0))
    valid = windows_of(mask.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    share = valid.clamp(min=1).to(dtype).unsqueeze(-1) / scale
    return ((windows * filters).sum(dim=2, dtype=dtype) / share).to(hidden_states.dtype), valid > 0


def pseudo_random(count: int, seed: int, device: torch.device) -> torch.Tensor:
    """
    `count` integers of at least 0 that look drawn at random: the same on every device, and the same ones first for any
    `count`, which a generator does not promise. A multiply-and-shift hash of place and seed.
    """
    places = torch.arange(count, device=device) + 1
    mixed = (places * 2654435761 + seed * 40503 + 97) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 73244475) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 73244475) & 0xFFFFFFFF
    return mixed ^ (mixed >> 16)


__all__ = [
    "SAMPLINGS",
    "WindowOrder",
    "downsample",
    "is_dynamic",
    "is_exporting",
    "pool_tokens",
    "window_order",
]
