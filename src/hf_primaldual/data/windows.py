"""Windows of long series and texts, and the vote of its windows on a whole one."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from .splits import column_of, ids_of, problem, refuse
from .tables import nested

TOO_LONG = ("refuse", "cut", "window")


def cut_series(
    split: Dataset,
    *,
    window: int | None = None,
    stride: int | None = None,
    max_steps: int | None = None,
    too_long: str = "refuse",
) -> Dataset:
    """Cut series to the steps that a model reads, as [`series_dataset`] does, here what is to be predicted.

    Args:
        split: Series as [`read_series`] returns them.
        window, stride: Cut each series into windows of so many steps, one every `stride` steps (default: `window`).
            The last window ends with the series, so that no step is lost; a shorter series stays as it is.
        max_steps: The positions of the model.
        too_long: What becomes of a series with more steps: `"refuse"`, `"cut"` off its end, or `"window"`, which cuts
            it into windows of `max_steps`.

    Returns:
        One row a window, with the other columns of its series, such as `recording`, for [`vote`].

    Raises:
        ValueError: A setting does not fit the others, or a series is too long.
    """
    check_window_settings(window, stride, max_steps, too_long)
    column = column_of(split, "past_values")
    if window is None and too_long == "refuse":
        refuse(too_long_problems(column, max_steps, "the data", ids_of(split)))
    lengths = pc.list_value_length(column).to_numpy().astype(int)
    size = window or max_steps
    if size is None or not len(lengths) or lengths.max() <= size:
        return split
    last = np.maximum(lengths - size, 0)
    keeps_one = window is None and too_long == "cut"
    counts = np.ones_like(last) if keeps_one else 1 + -(-last // (stride or size))
    of_window = np.repeat(np.arange(len(lengths)), counts)
    places = _within(counts)
    starts = np.minimum(places * (stride or size), last[of_window])
    sizes = np.minimum(lengths[of_window], size)
    firsts = np.cumsum(lengths) - lengths
    steps = np.repeat(firsts[of_window] + starts, sizes) + _within(sizes)
    values = column.flatten()
    width = len(values[0])
    values = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)[steps]
    columns = split.remove_columns("past_values").with_format("arrow")[:].take(pa.array(of_window))
    columns = columns.add_column(0, "past_values", nested(values.ravel(), width, sizes)).select(split.column_names)
    return Dataset(columns.cast(split.features.arrow_schema), info=split.info.copy(), split=split.split)


def cut_texts(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, window: int, stride: int | None = None
) -> tuple[list[list[int]], list[int]]:
    """Cut texts into the windows that a model reads.

    Args:
        texts: Of any length.
        tokenizer: That of the model.
        window: Tokens of a window, the special ones that the tokenizer adds among them; the positions of the model.
        stride: Tokens from one window to the next; by default as many as fit between the special ones. The last window
            ends with the text, so that no token is lost; a shorter text is one window.

    Returns:
        The tokens of each window, for `tokenizer.pad`, and the place of its text among `texts`, for [`vote`].
    """
    whole, plain = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    first = next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
    before, behind = whole[:first], whole[first + len(plain) :]
    size = window - len(before) - len(behind)
    stride = size if stride is None else stride
    if not 0 < stride <= size:
        raise ValueError(
            f"`stride` must be from 1 to {size}, the tokens of a window of {window} without special ones, or some are "
            f"lost, got {stride}."
        )
    windows, places = [], []
    for place, text in enumerate(texts):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        last = max(len(ids) - size, 0)
        starts = [min(start, last) for start in range(0, last + stride, stride)]
        windows += [[*before, *ids[start : start + size], *behind] for start in starts]
        places += [place] * len(starts)
    return windows, places


def vote(recordings: Iterable, scores: np.ndarray, how: str = "mean") -> tuple[np.ndarray, np.ndarray]:
    """Answer for whole recordings where a model answered for their windows.

    Args:
        recordings: The recording of each window, the column of that name.
        scores: Of shape (windows, classes): probabilities, or else logits.
        how: `"mean"` of the windows' scores, or `"majority"`, the share of windows that score a class highest; of
            classes with as many windows the first wins.

    Returns:
        The recordings in the order in which they first come, and their scores, of shape (recordings, classes).
    """
    if how not in ("mean", "majority"):
        raise ValueError(f"`how` must be mean or majority, got {how!r}.")
    scores = np.asarray(scores, np.float64)
    codes, names = pd.factorize(pd.Series(list(recordings)))
    if scores.ndim != 2 or len(scores) != len(codes):
        raise ValueError(f"`scores` must be of shape ({len(codes)}, classes), one row a window, got {scores.shape}.")
    if how == "majority":
        scores = np.eye(scores.shape[1])[scores.argmax(1)]
    return np.asarray(names), pd.DataFrame(scores).groupby(codes).mean().to_numpy()


def check_window_settings(window: int | None, stride: int | None, max_steps: int | None, too_long: str) -> None:
    """Refuses settings of windows that do not fit each other."""
    for name, value in (("window", window), ("stride", stride), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    if too_long not in TOO_LONG:
        raise ValueError(f"`too_long` must be one of {', '.join(TOO_LONG)}, got {too_long!r}.")
    if too_long != "refuse" and max_steps is None:
        raise ValueError(f"`too_long` = {too_long!r} needs `max_steps`, the positions of the model.")
    size = window or (max_steps if too_long == "window" else None)
    if stride is not None and (size is None or stride > size):
        raise ValueError(f"`stride` must be at most the window, or steps are lost, got {stride} and {size}.")
    if window is not None and max_steps is not None and window > max_steps:
        raise ValueError(f"`window` must be at most the positions of the model, got {window} and {max_steps}.")


def too_long_problems(column: pa.Array, max_steps: int | None, where: str, ids: pa.Array | None) -> list[str]:
    """The series that have more steps than the model has positions."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    rows = np.flatnonzero(lengths > max_steps) if max_steps is not None else ()
    what = f"series are longer than the {max_steps} positions of the model, up to {max(lengths, default=0)}"
    advice = "raise `max_steps` (`--max_steps_per_series`), or set `too_long` to cut or window"
    return problem(where, rows, len(column), what, advice, ids)


def _within(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... count - 1 of each count, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
