"""Attention maps as they are put out. The output is made of them, so that they get a gradient."""

from typing import NamedTuple

import torch

from .padding_primal_dual import shift_maps


class MapLayout(NamedTuple):
    """
    What becomes of the weights of a group of heads, `(batch, heads, tokens, keys)`, where they are put out: one tensor
    for each head, with `per_head`; and rows that were turned to their first real token, by `starts` behind `prefix`
    tokens, in the order of their tokens.
    """

    per_head: bool = False
    starts: torch.Tensor | None = None
    prefix: int = 0

    def put_out(
        self, weights: torch.Tensor, asked: bool
    ) -> tuple[torch.Tensor | tuple[torch.Tensor, ...], torch.Tensor]:
        """The maps, and the weights to go on with: where maps are `asked` for, those same numbers taken from them."""
        maps = weights if self.starts is None else shift_maps(weights, self.starts, self.prefix, back=True)
        maps = maps.unbind(dim=1) if self.per_head else maps
        if maps is weights or not (asked and weights.requires_grad):
            return maps, weights
        weights = torch.stack(maps, dim=1) if self.per_head else maps
        return maps, weights if self.starts is None else shift_maps(weights, self.starts, self.prefix)


__all__ = ["MapLayout"]
