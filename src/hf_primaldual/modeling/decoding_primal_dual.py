"""What is remembered of a cache from one token to the next, so that a step reads no more of it than it attends to."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicLayer

from .causal_windows_primal_dual import points_of
from .head_groups_primal_dual import HeadGroups, take
from .intervals_primal_dual import Intervals, power_of, to_the_minus, within_range


class Moments(NamedTuple):
    """How many keys there are, their mean and the sum of their squares about it, `(batch, 1, heads, head_dim)`."""

    count: int | torch.Tensor
    mean: torch.Tensor
    squares: torch.Tensor | float

    @classmethod
    def of(cls, keys: torch.Tensor, mask: torch.Tensor | None = None) -> "Moments":
        """Of keys, `(batch, keys, heads, head_dim)`, those alone for which a mask, `(batch or 1, keys)`, is true."""
        # The roundings of thousands of steps add up.
        keys = keys.double()
        if keys.shape[1] == 1:
            return cls(1, keys, 0.0)
        if mask is None:
            mean = keys.mean(dim=1, keepdim=True)
            return cls(keys.shape[1], mean, (keys - mean).square_().sum(dim=1, keepdim=True))
        mask = mask[..., None, None]
        count = mask.sum(dim=1, keepdim=True, dtype=keys.dtype)
        mean = (keys * mask).sum(dim=1, keepdim=True) / count
        return cls(count, mean, ((keys - mean) * mask).square_().sum(dim=1, keepdim=True))

    def with_more(self, more: "Moments") -> "Moments":
        """Those of the keys of both (Chan, Golub and LeVeque, 1983)."""
        count = self.count + more.count
        distance, share = more.mean - self.mean, more.count / count
        squares = torch.addcmul(self.squares, distance, distance * (self.count * share))
        if isinstance(more.squares, torch.Tensor):
            squares += more.squares
        return Moments(count, self.mean.lerp(more.mean, share), squares)


@dataclass
class Heads:
    """Of some heads: the points of all whole windows, keys and values; the moments of those, or of all keys."""

    points: list[torch.Tensor] | None = None
    moments: Moments | None = None


@dataclass
class Memory:
    """
    Sums over the keys of a cache's layer, and the points of its windows. They hold as long as the cache has the very
    tensor that they were taken of: what a beam search reorders or a user cuts is summed anew.
    """

    keys: torch.Tensor | None = None
    version: int | None = None
    first: torch.Tensor | None = None
    length: int = 0
    heads: dict[tuple, Heads] = field(default_factory=dict)

    def keep(self, keys: torch.Tensor) -> None:
        """After a step: the cache's tensor as it now is, `(batch, heads, keys, head_dim)`."""
        self.keys, self.version = keys, _version(keys)

    def reach(self, first: torch.Tensor | None, length: int) -> None:
        """Before a step: forgets what is not of the keys from `first` on, of all but the last of `length`."""
        are_same = first is self.first or (None not in (first, self.first) and torch.equal(first, self.first))
        if self.length != length - 1 or not are_same:
            self.heads = {}
        self.first, self.length = first, length


def memory_of(cache: Cache | None, layer_idx: int | None) -> Memory | None:
    """
    What is remembered of a layer's cache, before its next keys are added; `None` where nobody can tell whether that
    still holds, or where it may not: caches of another kind than `DynamicCache`, gradients, a compiled forward.
    """
    layers = getattr(cache, "layers", ())
    if layer_idx is None or layer_idx >= len(layers) or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    layer = layers[layer_idx]
    if type(layer) is not DynamicLayer or layer.keys is None:
        return None
    memory = vars(layer).setdefault("primal_dual", Memory())
    if memory.keys is not layer.keys or memory.version != _version(layer.keys):
        memory.heads = {}
    # Held no longer than the cache holds it: the new one may then lie where it lay.
    memory.keys = None
    return memory


def _version(states: torch.Tensor) -> int | None:
    """How often a tensor was written into, which those of inference mode do not count."""
    return None if states.is_inference() else states._version


@dataclass
class OneQuery:
    """
    Causal Attention-BN, Attention-SH or both of one query in each row, whose keys are in a cache.

    Args:
        memory (`Memory`): of the layer's cache.
        scaling (`float`): of the logits.
        sampling, seed: how a window becomes a point, as for [`downsample`].
    """

    memory: Memory
    scaling: float
    sampling: str = "average"
    seed: int = 0

    def reaches(self, seen: Intervals | None, keys: int, scales: list[int]) -> bool:
        """Whether rows see all keys from their first on, and windows, if there are any, are the same in each."""
        first = None
        if seen is not None:
            if (seen.last != keys - 1).any():
                return False
            first = seen.first if seen.first.any() else None
        if first is not None and max(scales) > 1:
            return False
        self.memory.reach(first, keys)
        return True

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        groups: HeadGroups,
        folds: list[tuple | None],
    ) -> torch.Tensor:
        """
        Args:
            query (`torch.Tensor` of shape `(batch, 1, heads, head_dim)`).
            key, value (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`): or fewer heads, each for a group of
                neighbouring query heads.
            groups (`HeadGroups`): the heads by their factor.
            folds (`list`): beta, scaling and eps of Attention-BN for each of them, or `None`.

        Returns:
            `torch.Tensor` of shape `(batch, 1, heads, head_dim)`.
        """
        per_key, outputs = query.shape[2] // key.shape[2], []
        for scale, heads, fold, part in zip(groups.amounts, groups.heads, folds, groups.split(query), strict=True):
            of_keys = [head // per_key for head in heads]
            several = len(heads) // len(set(of_keys))
            if of_keys[::several] * several != sorted(set(of_keys)) * several:
                # Heads that share a key's are not as many for each.
                several = 1
            chosen = of_keys[::several]
            states = [each if len(chosen) == each.shape[2] else take(each, chosen, dim=2) for each in (key, value)]
            outputs.append(self._over_group(part, *states, scale, fold, (scale, *heads)))
        return groups.join(outputs)

    def _over_group(self, query, key, value, scale: int, fold: tuple | None, name: tuple) -> torch.Tensor:
        known, mask = self.memory.heads.setdefault((*name, self.sampling, self.seed), Heads()), None
        if self.memory.first is not None:
            mask = torch.arange(key.shape[1], device=key.device) >= self.memory.first
        moments = None
        if scale > 1:
            key, value, moments = self._with_points(key, value, scale, known, fold is not None)
        elif fold is not None:
            moments = (
                Moments.of(key, mask) if known.moments is None else known.moments.with_more(Moments.of(key[:, -1:]))
            )
            known.moments = moments
        if fold is not None:
            query = _folded(query, moments, *fold)
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        return nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if mask is None else mask[:, None, None],
            scale=self.scaling,
            enable_gqa=query.shape[1] > key.shape[1],
        ).transpose(1, 2)

    def _with_points(self, key, value, scale: int, known: Heads, with_moments: bool):
        """The points of the windows before the query's and the keys of its own, their values, and moments."""
        windows = (key.shape[1] - 1) // scale
        there = 0 if known.points is None else known.points[0].shape[1]
        if known.points is None or there < windows:
            if self.sampling == "random":
                # The place of a window says which of its tokens is drawn.
                there, known.moments = 0, None
            new = slice(there * scale, windows * scale)
            points = [points_of(states[:, new], scale, self.sampling, self.seed) for states in (key, value)]
            if with_moments and windows:
                moments = Moments.of(points[0])
                known.moments = moments if known.moments is None else known.moments.with_more(moments)
            if there:
                points = [torch.cat(pair, dim=1) for pair in zip(known.points, points, strict=True)]
            known.points = points
        own = [states[:, windows * scale :] for states in (key, value)]
        moments = None
        if with_moments:
            moments = Moments.of(own[0])
            moments = moments if known.moments is None else known.moments.with_more(moments)
        return *(torch.cat(pair, dim=1) for pair in zip(known.points, own, strict=True)), moments


def _folded(query: torch.Tensor, moments: Moments, beta, scaling: bool | float, eps: float) -> torch.Tensor:
    """As [`fold_over_intervals`]."""
    count, mean, squares = moments
    power = power_of(count, float(scaling))
    inverse = to_the_minus(squares / count + eps, power).unsqueeze(3)
    centre = (beta * mean).unsqueeze(3)
    folded = (query.unflatten(2, (mean.shape[2], -1)) - centre) * inverse
    return within_range(folded.flatten(2, 3), query.dtype)


__all__ = ["Memory", "OneQuery", "memory_of"]
