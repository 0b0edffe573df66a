"""Rows that do not begin with a real token: where they begin, and how they are brought there."""

import torch
from transformers.utils.import_utils import is_tracing


def can_look(values: torch.Tensor) -> bool:
    """
    Whether what a tensor holds may decide what is done: not where it holds nothing (meta, fake tensors), in a graph
    that is recorded for other values (`torch.compile`, `torch.export`, `torch.jit.trace`), or under `torch.vmap`.
    """
    if torch.compiler.is_compiling():
        return False
    inner = values
    while torch._C._functorch.is_functorch_wrapped_tensor(inner):
        if torch._C._functorch.is_batchedtensor(inner):
            return False
        inner = torch._C._functorch.get_unwrapped(inner)
    return not (inner.is_meta or is_tracing(inner))


def row_starts(mask: torch.Tensor | None, prefix: int = 0) -> torch.Tensor | None:
    """
    The place behind the prefix at which each row has its first real token: what a row padded on the left counts its
    positions and its windows from.

    Args:
        mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for a real token.
        prefix (`int`): tokens in front that belong to no row (CLS).

    Returns:
        A `torch.LongTensor` of shape `(batch,)`; or `None` where every row begins at once. Where values can't be
        looked at, rows are taken to begin anywhere.
    """
    if mask is None or mask.shape[1] <= prefix:
        return None
    # Of equal ones argmax takes the first.
    starts = mask[:, prefix:].bool().int().argmax(dim=1)
    if not can_look(starts) or starts.any():
        return starts
    return None


def positions(tokens: int, starts: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """
    The place of each token in its row, counted from the row's first real one.

    Args:
        tokens (`int`): how many there are, padding included.
        starts (`torch.LongTensor` of shape `(batch,)`, *optional*): from [`row_starts`].

    Returns:
        `torch.LongTensor` of shape `(batch, tokens)`, or `(1, tokens)` where rows do not differ.
    """
    places = torch.arange(tokens, device=device).unsqueeze(0)
    return places if starts is None else (places - starts.unsqueeze(1)).clamp(min=0)


def shift_rows(states: torch.Tensor, starts: torch.Tensor, prefix: int = 0, back: bool = False) -> torch.Tensor:
    """
    Each row turned so that its first real token stands behind the prefix, and what stood before it at the end.

    Args:
        states (`torch.Tensor` of shape `(batch, tokens, ...)`).
        starts (`torch.LongTensor` of shape `(batch,)`): from [`row_starts`].
        prefix (`int`): tokens in front that stay where they are.
        back (`bool`): turns the rows back to where they were.

    Returns:
        `torch.Tensor` of the same shape.
    """
    place = torch.arange(states.shape[1], device=states.device).unsqueeze(0)
    moved = place - prefix + (-starts if back else starts).unsqueeze(1)
    source = torch.where(place < prefix, place, moved % (states.shape[1] - prefix) + prefix)
    return states.gather(1, source.view(*source.shape, *[1] * (states.ndim - 2)).expand_as(states))


def shift_maps(maps: torch.Tensor, starts: torch.Tensor, prefix: int = 0, back: bool = False) -> torch.Tensor:
    """
    Attention maps of rows that are turned by [`shift_rows`]. Keys that are tokens are turned too; windows are counted
    from a row's first real token wherever that stands.

    Args:
        maps (`torch.Tensor` of shape `(batch, heads, tokens, keys)`).
        starts, prefix, back: as for [`shift_rows`].
    """
    shifted = shift_rows(maps.transpose(1, 2), starts, prefix, back).transpose(1, 2)
    if maps.shape[2] != maps.shape[3]:
        return shifted
    return shift_rows(shifted.permute(0, 3, 1, 2), starts, prefix, back).permute(0, 2, 3, 1)


def without_padding(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Zeros in the place of padding, as a convolution finds them past the ends of a sequence."""
    return states if mask is None else states.masked_fill(~mask.unsqueeze(-1), 0)


__all__ = ["can_look", "positions", "row_starts", "shift_maps", "shift_rows", "without_padding"]
