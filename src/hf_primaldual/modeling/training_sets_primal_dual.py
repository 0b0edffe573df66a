"""The training set of each head's regression: which keys and values a query sees, and what becomes of the mask."""

from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .configuration_primal_dual import PrimalDualConfig
from .sparse_primal_dual import SparsePattern


class HeadGroup(NamedTuple):
    """Heads fitted on the same points, those points, and which of them a query sees.

    `points` has shape `(batch, points, width)`; `mask`, true for the points that count, `(batch, points)` or `None`;
    `pattern` is `None` where every query sees them all.
    """

    heads: list[int]
    points: torch.Tensor
    mask: torch.Tensor | None
    pattern: SparsePattern | None = None


def equal_windows(hidden_states: torch.Tensor, size: int) -> torch.Tensor:
    """Averages of consecutive windows of `size` tokens; a ragged last one is averaged over what it has."""
    batch, tokens, width = hidden_states.shape
    whole = tokens // size
    pooled = hidden_states[:, : whole * size].reshape(batch, whole, size, width).mean(dim=2)
    if whole * size == tokens:
        return pooled
    return torch.cat((pooled, hidden_states[:, whole * size :].mean(dim=1, keepdim=True)), dim=1)


def even_windows(hidden_states: torch.Tensor, points: int) -> torch.Tensor:
    """Averages of `points` consecutive windows as even as possible: the first ones are a token longer."""
    tokens = hidden_states.shape[1]
    size, longer = divmod(tokens, points)
    if longer == 0:
        return equal_windows(hidden_states, size)
    split = longer * (size + 1)
    return torch.cat(
        (equal_windows(hidden_states[:, :split], size + 1), equal_windows(hidden_states[:, split:], size)), dim=1
    )


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
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Fewer points to fit a head on (Definition 2). Average pooling commutes with the affine projections to keys and
    values, so it is the layer's input that is pooled.

    Windows are counted from the first token; one without a valid token is masked, and one with some averages those.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`): the layer's input.
        mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for a real token.
        scale (`int`): tokens per window; or
        points (`int`): number of windows, whatever the length.
        sampling (`str`): `"average"`; `"stride"` for the first valid token of each window; `"random"` for one of them,
            drawn by `seed` and the window's place; `"conv"` for a strided convolution, channel by channel.
        filters (`torch.Tensor` of shape `(scale, width)`): those of the convolution.

    Returns:
        The points of shape `(batch, points, width)`, and which of them count, `(batch, points)`, or `None` for all.
    """
    tokens = hidden_states.shape[1]
    if scale == 1 or (points is not None and points >= tokens):
        return hidden_states, mask
    if sampling == "average" and mask is None:
        return (even_windows(hidden_states, points) if scale is None else equal_windows(hidden_states, scale)), None
    if sampling == "average" and scale is not None:
        share = equal_windows(mask.unsqueeze(-1).to(hidden_states.dtype), scale)
        pooled = equal_windows(hidden_states * mask.unsqueeze(-1), scale) / torch.where(share > 0, share, 1)
        return pooled, share.squeeze(-1) > 0
    if mask is None:
        mask = hidden_states.new_ones(hidden_states.shape[:2], dtype=torch.bool)
    if sampling == "conv":
        return convolve_windows(hidden_states, mask, filters)
    members, valid = window_members(mask, scale, points)
    if sampling in ("stride", "random"):
        chosen = torch.zeros_like(members[..., :1])
        if sampling == "random":
            chosen = pseudo_random(members.shape[1], seed, members.device).view(1, -1, 1)
            chosen = chosen % valid.sum(dim=-1, keepdim=True).clamp(min=1)
        # The first token at which as many valid ones were counted as wanted.
        place = ((valid.cumsum(dim=-1) == chosen + 1) & valid).int().argmax(dim=-1, keepdim=True)
        members, valid = members.gather(-1, place), valid.gather(-1, place)
    # An embedding is a gather of rows whose backward is parallel.
    rows = members + torch.arange(members.shape[0], device=members.device).view(-1, 1, 1) * tokens
    gathered = nn.functional.embedding(rows, hidden_states.flatten(0, 1))
    weights = valid.to(hidden_states.dtype) / valid.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.matmul(weights.unsqueeze(2), gathered).squeeze(2), valid.any(dim=-1)


def convolve_windows(
    hidden_states: torch.Tensor, mask: torch.Tensor, filters: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    A convolution with a stride of its own length. A window with fewer valid tokens is scaled up by what it lacks, so
    that filters of one over the scale average, wherever the padding lies.
    """
    scale = len(filters)
    filled = -hidden_states.shape[1] % scale
    windows = nn.functional.pad(hidden_states * mask.unsqueeze(-1), (0, 0, 0, filled)).unflatten(1, (-1, scale))
    valid = nn.functional.pad(mask, (0, filled)).unflatten(1, (-1, scale)).sum(dim=-1)
    share = valid.clamp(min=1).to(hidden_states.dtype).unsqueeze(-1) / scale
    return (windows * filters).sum(dim=2) / share, valid > 0


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


def check_mask(attention_mask: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor | None:
    """
    The mask as booleans, or `None` where it masks nothing.

    Under `torch.compile` and `torch.export` the values cannot be looked at: the mask is kept and not checked.

    Args:
        attention_mask (`torch.Tensor` of shape `(batch, tokens)`): 1 for a real token, 0 for padding.
        hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`): what it masks.

    Raises:
        ValueError: when the shapes differ, or a row has no real token.
    """
    if attention_mask.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"`attention_mask` must have shape (batch, tokens) = {tuple(hidden_states.shape[:2])}, got "
            f"{tuple(attention_mask.shape)}."
        )
    mask = attention_mask.to(device=hidden_states.device, dtype=torch.bool)
    if torch.compiler.is_compiling():
        return mask
    fewest = mask.sum(dim=1).amin()
    if fewest == mask.shape[1]:
        return None
    if fewest == 0:
        rows = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(
            f"`attention_mask` must keep at least one token in every row, got only padding in rows {rows}."
        )
    return mask


class AllTokens(nn.Module):
    """Every head is fitted on every token; with a pattern, each query on its own subset of them."""

    def __init__(self, config: PrimalDualConfig):
        super().__init__()
        self.head_groups = [list(range(config.num_attention_heads))]
        self.pattern = sparse_pattern(config)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> list[HeadGroup]:
        return [HeadGroup(self.head_groups[0], hidden_states, mask, self.pattern)]


class WindowFilters(nn.ParameterDict):
    """
    Filters of strided convolutions by their lengths. A module of their own: transformers initializes what a checkpoint
    lacks in the module that holds it.
    """

    def reset_parameters(self):
        """Filters that average."""
        for filters in self.values():
            init.constant_(filters, 1 / len(filters))


class DownsampledTokens(nn.Module):
    """
    Each head sees the tokens downsampled by its own factor, or to its own number of points (Definition 2); with a
    pattern, each query its own subset of those, of the same reach in tokens.
    """

    def __init__(self, config: PrimalDualConfig):
        super().__init__()
        scales, points = config.resolved_head_scales(), config.resolved_head_points()
        self.sampling, self.seed = config.sampling, config.sampling_seed
        self.by_scale = points is None
        amounts = scales if self.by_scale else points
        self.amounts = sorted(set(amounts))
        self.head_groups = [
            [head for head, amount in enumerate(amounts) if amount == group_amount] for group_amount in self.amounts
        ]
        self.pattern = sparse_pattern(config)
        if self.sampling == "conv":
            # One filter for each factor, shared by the heads that have it: the input is pooled once for them all.
            self.filters = WindowFilters(
                {str(scale): torch.empty(scale, config.hidden_size) for scale in self.amounts if scale > 1}
            )
            self.filters.reset_parameters()

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> list[HeadGroup]:
        """One group of heads for each distinct factor or number of points; the input is pooled once for each."""
        groups, last = [], (1, hidden_states)
        for heads, amount in zip(self.head_groups, self.amounts, strict=True):
            amounts = {"scale": amount} if self.by_scale else {"points": amount}
            filters = self.filters[str(amount)] if self.sampling == "conv" and amount > 1 else None
            source = hidden_states
            if self._averages_whole_windows(hidden_states, mask, amount) and amount % last[0] == 0:
                # An average of averages of whole windows is their average, and has fewer tokens to go over.
                amounts, source = {"scale": amount // last[0]}, last[1]
            pooled = downsample(source, mask, **amounts, sampling=self.sampling, seed=self.seed, filters=filters)
            if self._averages_whole_windows(hidden_states, mask, amount):
                last = (amount, pooled[0])
            pattern = None if self.pattern is None else self.pattern.for_scale(amount)
            groups.append(HeadGroup(heads, *pooled, pattern))
        return groups

    def _averages_whole_windows(self, hidden_states: torch.Tensor, mask: torch.Tensor | None, amount: int) -> bool:
        return self.by_scale and self.sampling == "average" and mask is None and hidden_states.shape[1] % amount == 0


def sparse_pattern(config: PrimalDualConfig) -> SparsePattern | None:
    """The pattern that a configuration describes, if it has one."""
    if "sparse" not in config.choices.training_set:
        return None
    return SparsePattern(tuple(config.sparse_pattern), half=config.sparse_window // 2, stride=config.sparse_stride)


TRAINING_SETS = {
    "all": AllTokens,
    "downsampled": DownsampledTokens,
    "sparse": AllTokens,
    "sparse+downsampled": DownsampledTokens,
}


__all__ = ["TRAINING_SETS", "AllTokens", "DownsampledTokens", "HeadGroup", "WindowFilters", "check_mask", "downsample"]
