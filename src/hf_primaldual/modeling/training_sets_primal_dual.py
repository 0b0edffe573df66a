"""The training set of each head's regression: which keys and values a query sees, and what becomes of the mask."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .downsampling_primal_dual import WindowOrder, pool_tokens, window_order
from .head_groups_primal_dual import HeadGroups
from .padding_primal_dual import can_look
from .short_primal_dual import Pooling, pooling
from .sparse_primal_dual import SparsePattern
from .transforms_primal_dual import check_grid

if TYPE_CHECKING:
    from .configuration_primal_dual import PrimalDualConfig


class HeadGroup(NamedTuple):
    """
    Heads fitted on the same points, and which of those a query sees.

    `pool` makes the points of the layer's input, `(batch, tokens, width)` to `(batch, points, width)`, and says which
    of them count, `(batch, points)` or `None` for all; `is_pooled`, whether they are others than the tokens. `pattern`
    is `None` where every query sees all points; `order` is that of the queries in which the pattern holds, `None` for
    their own.
    """

    heads: list[int]
    pool: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
    is_pooled: bool = False
    pattern: SparsePattern | None = None
    order: WindowOrder | None = None


def check_mask(
    attention_mask: torch.Tensor, hidden_states: torch.Tensor, name: str = "attention_mask"
) -> torch.Tensor | None:
    """
    The mask as booleans, or `None` where it masks nothing.

    Where there are no values to look at ([`can_look`]) the mask is kept and not checked.

    Args:
        attention_mask (`torch.Tensor` of shape `(batch, tokens)`): 1 for a real token, 0 for padding.
        hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`): what it masks.
        name (`str`): what the errors call the mask.

    Raises:
        ValueError: when the shapes differ, or a row has no real token.
    """
    if attention_mask.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"`{name}` must have shape (batch, tokens) = {tuple(hidden_states.shape[:2])}, got "
            f"{tuple(attention_mask.shape)}."
        )
    mask = attention_mask.to(device=hidden_states.device, dtype=torch.bool)
    if not can_look(mask):
        return mask
    fewest = mask.sum(dim=1).amin()
    if fewest == mask.shape[1]:
        return None
    if fewest == 0:
        rows = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"`{name}` must keep at least one token in every row, got only padding in rows {rows}.")
    return mask


class AllTokens(nn.Module):
    """Every head is fitted on every token; with a pattern, each query on its own subset of them."""

    def __init__(self, config: "PrimalDualConfig"):
        super().__init__()
        self.groups = HeadGroups([1] * config.num_attention_heads)
        self.pattern = sparse_pattern(config)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None, grid_size=None) -> list[HeadGroup]:
        """All heads; arguments as for [`DownsampledTokens`]."""
        return [HeadGroup(self.groups.heads[0], lambda states: (states, mask), pattern=self.pattern)]


class WindowFilters(nn.Module):
    """
    Filters of strided convolutions by their lengths. A module of their own: transformers initializes what a checkpoint
    lacks in the module that holds it.
    """

    def __init__(self, shapes: dict[int, tuple[int, int]]):
        super().__init__()
        for scale, shape in shapes.items():
            self.register_parameter(str(scale), nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Filters that average."""
        for filters in self.parameters():
            init.constant_(filters, 1 / len(filters))

    def forward(self, scale: int) -> torch.Tensor:
        """Those of one length, `(scale, width)`, on a grid `(scale * scale, width)`."""
        return self.get_parameter(str(scale))


class DownsampledTokens(nn.Module):
    """
    Each head sees the tokens downsampled by its own factor, or to its own number of points (Definition 2); with a
    pattern, each query its own subset of those, of the same reach in tokens.

    Tokens of the prefix (CLS) are kept apart. On a grid of patches a factor of r pools windows of r x r.
    """

    def __init__(self, config: "PrimalDualConfig"):
        super().__init__()
        scales = config.resolved_head_scales()
        self.by_scale = scales is not None
        self.amount_name = "scale" if self.by_scale else "points"
        self.amounts = tuple(scales if self.by_scale else config.resolved_head_points())
        self.groups = HeadGroups(self.amounts)
        self.sampling, self.seed = config.sampling, config.sampling_seed
        self.pattern = sparse_pattern(config)
        self.prefix = config.num_prefix_tokens
        self.grid_size = None if config.grid_size is None else tuple(config.grid_size)
        self.dimensions = 1 if self.grid_size is None else 2
        if self.sampling == "conv":
            # One filter for each factor, shared by the heads that have it: the input is pooled once for them all.
            self.filters = WindowFilters(
                {scale: (scale**self.dimensions, config.hidden_size) for scale in self.groups.amounts if scale > 1}
            )

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, grid_size: tuple[int, int] | None = None
    ) -> list[HeadGroup]:
        """
        One group of heads for each distinct factor or number of points.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
            mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for a real token.
            grid_size (`tuple[int, int]`, *optional*): the grid where it is not the configuration's.

        Raises:
            ValueError: when there are not as many tokens as the prefix and the grid hold.
        """
        grid_size = self._grid_size(grid_size, hidden_states.shape[1])
        groups = []
        for heads, amount in zip(self.groups.heads, self.groups.amounts, strict=True):
            pool = partial(self._pool, mask=mask, amount=amount, grid_size=grid_size)
            is_pooled = amount > 1 or not self.by_scale
            groups.append(HeadGroup(heads, pool, is_pooled, *self._pattern_of(amount, grid_size, hidden_states)))
        return groups

    def _grid_size(self, grid_size: tuple[int, int] | None, tokens: int) -> tuple[int, int] | None:
        """The grid of these images, checked."""
        grid_size = self.grid_size if self.grid_size is None or grid_size is None else tuple(grid_size)
        if grid_size is not None:
            check_grid(grid_size, self.prefix, tokens)
        return grid_size

    def _pool(self, hidden_states, mask, amount, grid_size) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The points of one factor or number of points, and which of them count."""
        return pool_tokens(
            hidden_states,
            mask,
            prefix=self.prefix,
            sampling=self.sampling,
            seed=self.seed,
            filters=self.filters(amount) if self.sampling == "conv" and amount > 1 else None,
            grid_size=grid_size,
            **{self.amount_name: amount},
        )

    def pooling(self, hidden_states: torch.Tensor, grid_size: tuple[int, int] | None, centres: bool) -> Pooling:
        """What pools the keys and values of all heads at once."""
        grid_size = self._grid_size(grid_size, hidden_states.shape[1])
        how = {"sampling": self.sampling, "seed": self.seed, "prefix": self.prefix, "grid_size": grid_size}
        kind = {"dtype": hidden_states.dtype, "device": hidden_states.device}
        return pooling(hidden_states.shape[1], self.amounts, name=self.amount_name, centres=centres, **kind, **how)

    def _pattern_of(self, scale: int, grid_size, hidden_states) -> tuple[SparsePattern | None, WindowOrder | None]:
        """The pattern over keys that stand for windows, and the order in which each key's queries lie together."""
        if self.pattern is None or scale == 1:
            return self.pattern, None
        if grid_size is not None:
            scale = min(scale, max(grid_size))
        pattern = self.pattern.for_scale(scale**self.dimensions)
        if self.prefix == 0 and grid_size is None:
            return pattern, None
        return pattern, window_order(hidden_states.shape[1], grid_size, scale, self.prefix, hidden_states.device)


def sparse_pattern(config: "PrimalDualConfig") -> SparsePattern | None:
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


__all__ = ["TRAINING_SETS", "AllTokens", "DownsampledTokens", "HeadGroup", "WindowFilters", "check_mask"]
