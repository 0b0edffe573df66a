"""Heads of one factor or number of points see the same keys, and are computed together."""

from collections.abc import Sequence

import torch


def take(states: torch.Tensor, heads: Sequence[int], dim: int = 0) -> torch.Tensor:
    """`states` of these heads, which lie along `dim`: by runs of neighbours, since a GPU would wait for an index."""
    starts = [place for place, head in enumerate(heads) if place == 0 or head != heads[place - 1] + 1]
    runs = [states.narrow(dim, heads[a], b - a) for a, b in zip(starts, [*starts[1:], len(heads)], strict=True)]
    return runs[0] if len(runs) == 1 else torch.cat(runs, dim=dim)


class HeadGroups:
    """
    The heads of a layer by what they have in common, such as their factor.

    Args:
        amounts (`list[int]`): one for each head; heads of the same amount are a group.
    """

    def __init__(self, amounts: Sequence[int]):
        self.amounts = sorted(set(amounts))
        self.heads = [[head for head, own in enumerate(amounts) if own == amount] for amount in self.amounts]
        self.gathered = [head for heads in self.heads for head in heads]
        # Heads of one group need not be neighbours.
        self.order = None if self.gathered == sorted(self.gathered) else self.gathered
        self.places = [self.gathered.index(head) for head in range(len(amounts))]

    def split(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`(batch, tokens, heads, head_dim)` into one tensor for each group, without a copy where it can be."""
        return self.parts(self.gather(states))

    def gather(self, states: torch.Tensor, width: int = 1, dim: int = 2) -> torch.Tensor:
        """`states` with the heads of a group beside each other, of which each takes `width` places along `dim`."""
        if self.order is None:
            return states
        return take(states.unflatten(dim, (-1, width)), self.order, dim).flatten(dim, dim + 1)

    def parts(self, states: torch.Tensor, width: int = 1, dim: int = 2) -> tuple[torch.Tensor, ...]:
        """What `gather` gives as one tensor for each group."""
        return (states,) if len(self.heads) == 1 else states.split([len(heads) * width for heads in self.heads], dim)

    def join(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """The groups' tensors, `(batch, tokens, heads, head_dim)` each, as one in the order of the layer's heads."""
        joined = states[0] if len(states) == 1 else torch.cat(tuple(states), dim=2)
        return joined if self.order is None else take(joined, self.places, dim=2)

    def collect(
        self, maps: list[torch.Tensor | tuple[torch.Tensor, ...] | None]
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | None:
        """
        The groups' attention maps, `(batch, heads, tokens, keys)` each or one tensor for each head: the one tensor of
        a single group, or a tuple with one of shape `(batch, tokens, keys)` for each of the layer's heads; `None`
        where none were formed.
        """
        if maps[0] is None or len(maps) == 1:
            return maps[0]
        groups = (weights.unbind(dim=1) if isinstance(weights, torch.Tensor) else weights for weights in maps)
        per_head = [head for weights in groups for head in weights]
        return tuple(per_head[place] for place in self.places)


__all__ = ["HeadGroups", "take"]
