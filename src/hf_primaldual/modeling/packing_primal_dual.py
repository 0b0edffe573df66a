"""Documents that share a row, apart as rows of a batch and together again."""

import torch

from .intervals_primal_dual import Intervals


class Documents:
    """
    Documents that lie one after the other in the rows of a batch. One of a single token, as padding may be taken for,
    attends to nothing but itself and is left out.

    Args:
        starts (`torch.BoolTensor` of shape `(batch, tokens)`): true for the first token of each.
    """

    def __init__(self, starts: torch.Tensor):
        self.tokens = starts.shape[1]
        begin = starts.flatten().nonzero().flatten()
        end = torch.cat((begin[1:], begin.new_tensor([starts.numel()])))
        self.begin, end = (places[end - begin > 1] for places in (begin, end))
        within = torch.arange(int((end - self.begin).max()) if len(end) else 0, device=starts.device)
        self.mask = within < (end - self.begin).unsqueeze(-1)  # (documents, longest)
        self.index = (self.begin.unsqueeze(-1) + within).clamp(max=starts.numel() - 1)

    def starts_of_rows(self, batch: int) -> torch.Tensor | None:
        """Where the only document of each row begins, `(batch, 1)`; `None` if a row has more of them."""
        rows = self.begin // self.tokens
        if len(rows.unique()) < len(rows):
            return None
        starts = self.begin.new_full((batch, 1), self.tokens - 1)
        starts[rows, 0] = self.begin % self.tokens
        return starts

    def unpack(self, states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, ...)` to `(documents, longest, ...)`, with anything behind a document's end."""
        return states.flatten(0, 1)[self.index]

    def pack(self, states: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """`(documents, longest, ...)` to `(batch, tokens, ...)`, where there is no document with `others`."""
        rows = others.flatten(0, 1).index_put((self.index[self.mask],), states[self.mask])
        return rows.unflatten(0, others.shape[:2])


def documents_of(seen: Intervals, batch: int, is_causal: bool) -> Documents | None:
    """The documents of which each query sees its own, in causal attention up to its own place; else `None`."""
    first, last = (places.expand(batch, -1) for places in seen)
    starts = first == torch.arange(first.shape[1], device=first.device)
    starts[:, 0] = True
    expected = intervals_of_starts(starts, is_causal)
    return Documents(starts) if (first == expected.first).all() and (last == expected.last).all() else None


def intervals_of_starts(starts: torch.Tensor, is_causal: bool) -> Intervals:
    """The intervals of documents that begin where `starts`, `(batch, tokens)`, is true."""
    place = torch.arange(starts.shape[1], device=starts.device).expand_as(starts)
    first = torch.where(starts, place, 0).cummax(dim=1).values
    if is_causal:
        return Intervals(first, place)
    is_end = torch.cat((starts[:, 1:], torch.ones_like(starts[:, :1])), dim=1)
    return Intervals(first, torch.where(is_end, place, starts.shape[1]).flip(1).cummin(dim=1).values.flip(1))


def starts_of_lengths(cumulated: torch.Tensor, tokens: int) -> torch.Tensor:
    """
    Where documents begin, `(1, tokens)`, whose ends are known, as transformers' `cu_seq_lens_q`.

    Raises:
        ValueError: when they do not make up the row.
    """
    if cumulated.dim() != 1 or cumulated[0] != 0 or cumulated[-1] != tokens or (cumulated.diff() < 1).any():
        raise ValueError(
            f"`cu_seq_lens_q` must rise from 0 to the {tokens} tokens of the row, got {cumulated.tolist()}."
        )
    starts = torch.zeros(1, tokens, dtype=torch.bool, device=cumulated.device)
    starts[0, cumulated[:-1].long()] = True
    return starts


def starts_of_positions(positions: torch.Tensor) -> torch.Tensor | None:
    """Where documents begin, `(batch, tokens)`, by their tokens' places in them; `None` if no row has several."""
    starts = positions.diff(dim=1, prepend=positions[:, :1]) != 1
    return starts if starts[:, 1:].any() else None


__all__ = ["Documents", "documents_of", "intervals_of_starts", "starts_of_lengths", "starts_of_positions"]
