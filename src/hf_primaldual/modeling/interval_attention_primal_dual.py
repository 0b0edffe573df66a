"""Attention whose queries see intervals of keys each: causal, with a cache, padded, local, packed or prefixed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from .causal_windows_primal_dual import causal_downsampled_attention, few_queries
from .decoding_primal_dual import Memory, OneQuery
from .head_groups_primal_dual import HeadGroups, take
from .intervals_primal_dual import Intervals, fold_over_intervals
from .kernels_primal_dual import additive_mask, eager_attention_forward
from .packing_primal_dual import documents_of
from .padding_primal_dual import can_look


@dataclass
class IntervalAttention:
    """
    Attention-BN, Attention-SH or both, where each query has a regression of its own.

    Args:
        module (`nn.Module`): the layer.
        scaling (`float`): of the logits.
        dropout (`float`): of the maps.
        fold (`tuple`, *optional*): beta, a number or a `torch.Tensor` of shape `(heads, 1)`, scaling and eps of
            Attention-BN.
        scales (`Sequence[int]`, *optional*): tokens per window for each head of causal Attention-SH.
        sampling, seed: how a window becomes a point, as for [`downsample`].
        is_causal (`bool`): whether no query sees what comes after it.
        with_maps (`bool`): whether maps are formed.
        memory (`Memory`, *optional*): of a cache, for causal queries that come one at a time.
    """

    module: nn.Module
    scaling: float
    dropout: float = 0.0
    fold: tuple | None = None
    scales: Sequence[int] | None = None
    sampling: str = "average"
    seed: int = 0
    is_causal: bool = True
    with_maps: bool = False
    memory: Memory | None = None

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: Intervals | None
    ) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
        """
        Args:
            query (`torch.Tensor` of shape `(batch, queries, heads, head_dim)`).
            key, value (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`): or fewer heads, each for a group of
                neighbouring query heads.
            seen (`Intervals`, *optional*): by default each query sees its own key, in the same place, and all before;
                one query is the last.

        Returns:
            The output of shape `(batch, queries, heads, head_dim)`; and the maps of shape
            `(batch, heads, queries, keys)`, for windows a tuple with one of `(batch, queries, windows + keys)` for
            each head, or `None`.

        Raises:
            ValueError: for windows of intervals that are neither causal nor packed documents.
        """
        if self.memory is not None and query.shape[1] == 1 and not (self.with_maps or self.dropout):
            groups = HeadGroups(self.scales or [1] * query.shape[2])
            attend = OneQuery(self.memory, self.scaling, self.sampling, self.seed)
            if attend.reaches(seen, key.shape[1], groups.amounts):
                return attend(query, key, value, groups, [self._fold_of(heads) for heads in groups.heads]), None
        if seen is None and query.shape[1] < key.shape[1]:
            seen = Intervals.of_last(key)
        if self.scales is None:
            return self._over_keys(query, key, value, seen)
        key, value = in_query_heads(query, key, value)
        if seen is not None and query.shape[1] == key.shape[1] and can_look(seen.first):
            documents = documents_of(seen, len(query), is_causal=True)
            if documents is None:
                raise ValueError(
                    f"{type(self.module).__name__} shows its queries intervals of keys that Attention-SH has no "
                    "windows for, others than those of causal attention and of packed documents; use 'bn' or "
                    "`attn_implementation='sdpa'`."
                )
            if not self.with_maps:
                output, _ = self._over_windows(*map(documents.unpack, (query, key, value)), None)
                return documents.pack(output, others=value), None
            starts = documents.starts_of_rows(len(query))
            if starts is None:
                raise ValueError("`output_attentions` must be false for packed documents: each has maps of its own.")
            # What is padded in front sees itself.
            seen = Intervals(torch.minimum(starts, seen.last), seen.last)
        return self._over_windows(query, key, value, seen)

    def _over_keys(self, query, key, value, seen):
        if self.fold is not None:
            query = fold_over_intervals(query, key, seen, *self.fold, is_causal=self.is_causal)
        key, value = in_query_heads(query, key, value)
        keep = None if seen is None else seen.keep(key.shape[1]).unsqueeze(1)
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        if self.with_maps:
            if keep is None:
                keep = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
            mask = additive_mask(keep, query)
            return eager_attention_forward(self.module, query, key, value, mask, self.scaling, self.dropout)
        output = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=keep, dropout_p=self.dropout, is_causal=keep is None, scale=self.scaling
        )
        return output.transpose(1, 2), None

    def _over_windows(self, query, key, value, seen):
        if seen is None and self.with_maps:
            place = torch.arange(query.shape[1], device=query.device).unsqueeze(0)
            seen = Intervals(torch.zeros_like(place), place)
        groups, outputs, maps = HeadGroups(self.scales), [], []
        how = {"sampling": self.sampling, "seed": self.seed, "dropout": self.dropout}
        for scale, heads, *states in zip(
            groups.amounts, groups.heads, *map(groups.split, (query, key, value)), strict=True
        ):
            fold, weights = self._fold_of(heads), None
            if scale == 1:
                output, weights = replace(self, fold=fold)._over_keys(*states, seen)
            elif seen is None:
                output = causal_downsampled_attention(*states, scale, self.scaling, fold=fold, **how)
            else:
                module = self.module if self.with_maps else None
                output, weights = few_queries(*states, seen, scale, self.scaling, fold=fold, **how, module=module)
            outputs.append(output)  # (batch, queries, group_heads, head_dim)
            maps.append(weights)  # (batch, group_heads, queries, windows + keys)
        return groups.join(outputs), groups.collect(maps)

    def _fold_of(self, heads: list[int]) -> tuple | None:
        if self.fold is None or not isinstance(self.fold[0], torch.Tensor):
            return self.fold
        return take(self.fold[0], heads), *self.fold[1:]


def in_query_heads(query, key, value) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, each as often as there are query heads in its group."""
    if query.shape[2] == key.shape[2]:
        return key, value
    return tuple(states.repeat_interleave(query.shape[2] // states.shape[2], dim=2) for states in (key, value))


__all__ = ["IntervalAttention", "in_query_heads"]
