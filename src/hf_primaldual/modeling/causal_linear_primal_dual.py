"""
Causal linear attention: the sums of a query's keys are those up to its own, taken by chunks, so that the cost grows
linearly with the length (Katharopoulos et al., 2020). With transforms and windows as below is our choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .causal_windows_primal_dual import points_of
from .head_groups_primal_dual import HeadGroups, take
from .intervals_primal_dual import CHUNK, CausalFold, Intervals, as_states, in_chunks, sums_before
from .kernels_primal_dual import check_features, without_autocast
from .packing_primal_dual import documents_of
from .padding_primal_dual import can_look


@dataclass
class CausalLinearAttention:
    """
    h_i = Phi(T_i(q_i)) sum_j Phi(T_j(k_j)) v_j^T / (Phi(T_i(q_i)) . sum_j Phi(T_j(k_j))) over the keys up to i.

    With Attention-BN queries and keys are each normalized by the keys up to their own place. With Attention-SH the
    sums are those of the points of the windows before the query's, and of its own window's keys up to it.

    Args:
        feature_map (`Callable`): Phi.
        name (`str`): what it is called.
        fold (`tuple`, *optional*): beta, a number or a `torch.Tensor` of shape `(heads, 1)`, scaling and eps of
            Attention-BN.
        scales (`Sequence[int]`, *optional*): tokens per window for each head of Attention-SH.
        sampling, seed: how a window becomes a point, as for [`downsample`].
    """

    feature_map: Callable
    name: str
    fold: tuple | None = None
    scales: Sequence[int] | None = None
    sampling: str = "average"
    seed: int = 0

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: Intervals | None
    ) -> torch.Tensor:
        """
        Args:
            query (`torch.Tensor` of shape `(batch, queries, heads, head_dim)`).
            key, value (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`).
            seen (`Intervals`, *optional*): by default each query sees its own key, in the same place, and all before;
                one query is the last.

        Returns:
            `torch.Tensor` of shape `(batch, queries, heads, head_dim)`.

        Raises:
            ValueError: for intervals that are neither causal nor packed documents, or a negative feature.
        """
        if seen is None and query.shape[1] < key.shape[1]:
            seen = Intervals.of_last(key)
        if seen is None:
            return self._over_rows(query, key, value)
        if query.shape[1] < key.shape[1]:
            # Those of a cache stand where they would without one.
            place = seen.last.expand(len(query), -1)[..., None, None].expand_as(query)
            rows = torch.zeros_like(key).scatter(1, place, query)
            own = torch.arange(key.shape[1], device=key.device).unsqueeze(0)
            first = seen.first.expand(len(query), -1).amax(dim=1, keepdim=True)
            seen = Intervals(torch.where(own < first, own, first), own)
            return self(rows, key, value, seen).gather(1, place)
        documents = documents_of(seen, len(query), is_causal=True) if can_look(seen.first) else None
        if documents is None:
            raise ValueError("Causal linear attention has sums of all keys of a row, or of a document, up to a query.")
        output = self._over_rows(*map(documents.unpack, (query, key, value)))
        return documents.pack(output.to(value.dtype), others=value)

    def _over_rows(self, query, key, value):
        if self.scales is None:
            return self._over_group(query, key, value, None, self.fold)
        groups, outputs = HeadGroups(self.scales), []
        for scale, heads, *states in zip(
            groups.amounts, groups.heads, *map(groups.split, (query, key, value)), strict=True
        ):
            fold = self.fold
            if fold is not None and isinstance(fold[0], torch.Tensor):
                fold = take(fold[0], heads), *fold[1:]
            outputs.append(self._over_group(*states, None if scale == 1 else scale, fold))
        return groups.join(outputs)

    def _over_group(self, query, key, value, scale: int | None, fold: tuple | None) -> torch.Tensor:
        """Heads of one factor."""
        tokens, dtype = query.shape[1], torch.promote_types(query.dtype, torch.float32)
        with without_autocast(query.device):
            size = scale or CHUNK
            query, key, value = (in_chunks(states.to(dtype), size).flatten(1, 2) for states in (query, key, value))
            points = (
                None if scale is None else [points_of(each, scale, self.sampling, self.seed) for each in (key, value)]
            )
            if fold is not None:
                # Both sides are divided by the deviation once.
                beta, power, eps = fold
                how = as_states(beta, key), float(power) / 2, eps, scale
                of_window = None if points is None else points[0]
                query, folded = (CausalFold.apply(each, key, of_window, *how)[0] for each in (query, key))
                if points is not None:
                    points[0] = CausalFold.apply(points[0], points[0], None, *how[:3], None)[0]
                key = folded
            query, key = self._features(query), self._features(key)
            # The last column counts.
            value = nn.functional.pad(value, (0, 1), value=1.0)
            # (batch, chunks, heads, size, channels)
            query, key, value = (in_chunks(states, size).transpose(2, 3) for states in (query, key, value))
            if points is None:
                sums = key.transpose(3, 4) @ value  # (batch, chunks, heads, head_dim, head_dim + 1)
            else:
                of_points = nn.functional.pad(points[1], (0, 1), value=1.0)
                sums = self._features(points[0]).unsqueeze(4) * of_points.unsqueeze(3)
            output = (query @ key.transpose(3, 4)).tril() @ value + query @ sums_before(sums)
            output = output.transpose(2, 3).flatten(1, 2)[:, :tokens]
            total = output[..., -1:]
            # As in `linear_kernel`: a query without any key has an output of zero.
            total = torch.where(total > torch.finfo(dtype).tiny ** 0.75, total, 1)
            output = output[..., :-1] / total
        return output

    def _features(self, states: torch.Tensor) -> torch.Tensor:
        features = self.feature_map(states)
        if self.name != "elu+1":
            check_features(features, self.name)
        return features


__all__ = ["CausalLinearAttention"]
