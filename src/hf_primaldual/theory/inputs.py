"""Checks of what a user hands in."""

import torch
from numpy.typing import ArrayLike

# What a user may hand in for a tensor.
Array = torch.Tensor | ArrayLike


def as_matrix(name: str, values: Array, rows: int | None = None, columns: int | None = None) -> torch.Tensor:
    """An array or tensor as a finite float64 matrix on the CPU, with the `rows` and `columns` asked for."""
    matrix = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    shape = tuple(matrix.shape)
    wanted = f"({rows or 'rows'}, {columns or 'columns'})"
    if len(shape) != 2 or 0 in shape or (rows or shape[0], columns or shape[1]) != shape:
        raise ValueError(f"`{name}` must have shape {wanted}, none of them 0, got {shape}.")
    finite = torch.isfinite(matrix)
    if not finite.all():
        row, column = (~finite).nonzero()[0].tolist()
        raise ValueError(f"`{name}` must be finite, got {matrix[row, column].item()} at row {row}, column {column}.")
    return matrix


def check_range(name: str, value: float, least: float, allowed: bool) -> None:
    """Refuses a number that is not finite, below `least`, or equal to it where that is not `allowed`."""
    # Written so that NaN fails.
    if not (least < value < float("inf") or (allowed and value == least)):
        raise ValueError(f"`{name}` must be finite and {'at least' if allowed else 'above'} {least}, got {value}.")
