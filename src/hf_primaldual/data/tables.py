"""Tables of series, long or wide: CSV, parquet and JSON files, DataFrames and whatever else Arrow reads."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json, parquet

from .splits import LABEL_NAMES, listed, problem, refuse

# Cells of a CSV file that hold nothing.
_MISSING = pa.array(["", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"])
# Columns in which pandas wrote down the numbers of its rows.
_INDEX = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
_READERS = {
    ".csv": lambda path: _read_csv(path),
    ".tsv": lambda path: _read_csv(path),
    ".parquet": lambda path: parquet.read_table(path, partitioning=None),
    ".jsonl": lambda path: json.read_json(path),
}
TABLES = tuple(_READERS)


@dataclass(frozen=True)
class SeriesLayout:
    """How series lie in what is read.

    Args:
        id_column: The column that names the series of a row, of a long table: one row a step. It may name the rows of
            a wide table, which has one row a series.
        time_column: The column that orders the steps of a long table: numbers, dates, or texts of either. By default
            the rows are in order.
        value_columns: The channels: columns of numbers of a long table; of a wide table columns of lists, or one
            column of lists (time, channels); the name of the array of an `.npz` file. Default: `past_values` if there
            is one, else the columns of lists, else all columns that are named for nothing else.
        label_column: The column of classes. Default: labels, label, y, class or target, whichever there is; but no y
            beside an x.
        group_column: The column of groups, such as subjects, none of which is on both sides of a cut.
        channels_first: The series are (channels, time), as aeon and sktime have them, not (time, channels).
        rows_are: What the rows of a flat array or table are: `"steps"` of one series, or univariate `"series"`.
    """

    id_column: str | None = None
    time_column: str | None = None
    value_columns: str | Sequence[str] | None = None
    label_column: str | None = None
    group_column: str | None = None
    channels_first: bool = False
    rows_are: str | None = None

    def __post_init__(self) -> None:
        if self.rows_are not in (None, "steps", "series"):
            raise ValueError(f"`rows_are` must be steps or series, got {self.rows_are!r}.")
        if isinstance(self.value_columns, str):
            object.__setattr__(self, "value_columns", (self.value_columns,))
        named = [self.id_column, self.time_column, self.label_column, *(self.value_columns or ())]
        _once("`id_column`, `time_column`, `label_column` and `value_columns`", [name for name in named if name])

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the column of classes may be called."""
        return (self.label_column,) if self.label_column else LABEL_NAMES


def suffix_of(path: Path) -> str:
    """How a file's name ends, whether it is compressed or not."""
    return (path.with_suffix("") if path.suffix in (".gz", ".bz2", ".zst") else path).suffix.lower()


def read_table(path: Path) -> pa.Table:
    """A file of `TABLES`. The cells of a CSV file are texts: digits of a class stay as they are."""
    try:
        return _READERS[suffix_of(path)](path)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        advice = "; save it as UTF-8" if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error) else ""
        raise ValueError(f"{path} cannot be read: {error}{advice}") from error


def _read_csv(path: Path) -> pa.Table:
    with pa.input_stream(str(path)) as file:
        header = file.read(1 << 16).partition(b"\n")[0].decode(errors="replace")
    ragged = {}

    def keep_in_mind(row: csv.InvalidRow) -> str:
        ragged[row.number] = row.actual_columns
        return "skip"

    options = {
        "parse_options": csv.ParseOptions(delimiter=max(",;\t", key=header.count), invalid_row_handler=keep_in_mind),
        # In one thread rows have numbers.
        "read_options": csv.ReadOptions(use_threads=False),
    }
    with csv.open_csv(path, **options) as reader:
        names = reader.schema.names
    _once(str(path), names)
    texts = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = csv.read_csv(path, convert_options=texts, **options)
    if ragged:
        lines = [f"line {line} has {count} cells" for line, count in sorted(ragged.items())]
        raise ValueError(
            f"{path}: {len(ragged)} lines have not the {len(names)} cells of the header: {listed(lines)}."
        )
    return table


def _once(where: str, names: Sequence[str]) -> None:
    if twice := [repr(name) for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{where}: several columns are called {listed(twice)}; name each once.")


def table_of_frame(
    frame: pd.DataFrame, layout: SeriesLayout, where: str, problems: list[str]
) -> tuple[pa.Table, SeriesLayout]:
    """A DataFrame as a table. Levels of its index that the layout names, or those of id and time, become columns."""
    if frame.index.nlevels == 2 and layout.id_column is None:
        frame = frame.rename_axis([name or default for name, default in zip(frame.index.names, ("id", "time"))])
        layout = replace(layout, id_column=frame.index.names[0], time_column=frame.index.names[1])
    wanted = {layout.id_column, layout.time_column, layout.label_column, layout.group_column} - {None}
    frame = frame.reset_index([name for name in frame.index.names if name in wanted])
    _once(where, list(frame.columns))
    columns = {}
    for name, column in frame.items():
        if any(hasattr(cell, "__array__") for cell in column.dropna().head(1)):
            # Arrow knows lists of arrays, but neither arrays of two dimensions nor series of pandas.
            column = column.map(lambda cell: list(np.asarray(cell)) if hasattr(cell, "__array__") else cell)
        columns[str(name)] = as_column(column, where, f"cells of {name!r}", problems)
    return pa.table(columns), layout


def as_column(values: Any, where: str, what: str, problems: list[str]) -> pa.Array:
    """One value a row, whatever holds them. Where values are of several types, a problem, they become texts."""
    try:
        values = pa.array(values if isinstance(values, list | pd.Series) else np.asarray(values), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        values = pd.Series(list(values), dtype=object)
        types = values.dropna().map(lambda value: type(value).__name__)
        most = next(iter(types.mode()))
        rare = types.index[types != most].to_numpy()
        if not len(rare):
            raise ValueError(f"{where}: {what} must be one text or number for each row, got {most}.") from None
        problems += problem(where, rare, len(values), f"{what} are {types[rare[0]]} where the others are {most}")
        values = pa.array(values.map(str, na_action="ignore"), from_pandas=True)
    return plain(values)


def plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece, of values as they are: categories by their names, texts without blanks around them."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    values = getattr(values, "storage", values)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    return pc.utf8_trim_whitespace(values) if _is_text(values.type) else values


def nested(values: np.ndarray, widths: np.ndarray | int, lengths: Sequence[int] | np.ndarray) -> pa.ListArray:
    """Lists (time, channels) of `lengths` steps, each of as many of the `values`, which are flat, as `widths` says."""
    for counts in (np.broadcast_to(widths, np.sum(lengths, dtype=int)), lengths):
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        values = pa.ListArray.from_arrays(offsets, values)
    return values


def series_of_table(
    table: pa.Table, layout: SeriesLayout, where: str, problems: list[str], has_labels: bool = False
) -> tuple[dict[str, pa.Array], list[str]]:
    """
    The columns of a split, `past_values`, lists (time, channels) of float64, `recording`, and `labels` and `group`
    where there are any; and the names of the columns of values. What is wrong with them is added to `problems`. Of
    series that have labels from elsewhere, `has_labels`, only a column that the layout names is one of classes.
    """
    names = table.column_names
    label = layout.label_column or (None if has_labels else _label_in(table))
    keys = {"recording": layout.id_column, "labels": label, "group": layout.group_column}
    if "past_values" in names:
        # What `series_dataset` has returned before.
        keys |= {key: key for key, name in keys.items() if name is None and key in names}
    keys = {key: name for key, name in keys.items() if name is not None}
    used = {*keys.values(), layout.time_column, *filter(_INDEX.fullmatch, names)}
    channels = layout.value_columns or [name for name in names if name == "past_values"]
    channels = channels or [name for name in names if name not in used and _is_list(table[name].type)]
    channels = list(channels or [name for name in names if name not in used])
    wanted = [*keys.values(), *channels, *([layout.time_column] if layout.time_column else ())]
    if absent := [repr(name) for name in wanted if name not in names]:
        raise ValueError(f"{where} has no column {listed(absent)}; it has {listed(names)}.")
    if not channels:
        raise ValueError(f"{where} has no column of values, only {listed(names)}.")
    is_nested = len(channels) == 1 and _is_list(getattr(table[channels[0]].type, "value_type", pa.null()))
    if layout.channels_first and not is_nested:
        raise ValueError(f"{where}: `channels_first` is of arrays and lists of lists, got columns {listed(channels)}.")
    columns = {key: plain(table[name]) for key, name in keys.items()}
    if _is_list(table[channels[0]].type):
        columns["past_values"] = _wide(table, channels, where, problems)
    else:
        values = np.empty((len(table), len(channels)))
        for place, name in enumerate(channels):
            values[:, place] = _numbers(plain(table[name]), where, f"cells of {name!r}", problems)
        if layout.rows_are == "series" and "recording" not in columns:
            columns["past_values"] = nested(values.ravel(), 1, [len(channels)] * len(table))
        elif layout.rows_are == "steps" or "recording" in columns:
            columns.setdefault("recording", pa.array(np.zeros(len(table), int)))
            times = _times(plain(table[layout.time_column]), where, problems) if layout.time_column else None
            columns = _long(columns, values, times, where, problems)
        else:
            raise ValueError(
                f"{where} has neither a column of lists nor an `id_column`; name the column that says which series a "
                "row is of, or say whether its rows are the steps of one series, `rows_are='steps'`, or univariate "
                "series, `rows_are='series'`."
            )
    columns.setdefault("recording", pa.array(np.arange(len(columns["past_values"]))))
    return columns, channels


def _label_in(table: pa.Table) -> str | None:
    """The column that is called as classes are."""
    names = table.column_names
    # Beside an x, y is a coordinate, as of an accelerometer.
    coordinates = ["y"] if "x" in names and not _is_list(table["x"].type) else []
    return next((name for name in LABEL_NAMES if name in names and name not in coordinates), None)


def _is_list(kind: pa.DataType) -> bool:
    kind = getattr(kind, "storage_type", kind)
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _long(
    columns: dict[str, pa.Array], values: np.ndarray, times: np.ndarray | None, where: str, problems: list[str]
) -> dict[str, pa.Array]:
    """One row a step to one row a series, in the order in which their ids come, each sorted by time."""
    ids = columns["recording"].dictionary_encode()
    blank = ids.dictionary.index("").as_py() if _is_text(ids.dictionary.type) else -1
    codes = ids.indices.fill_null(-1).to_numpy()
    nameless = (codes < 0) | (codes == blank)
    problems += problem(where, np.flatnonzero(nameless), len(codes), "rows have no id")
    order = np.lexsort((codes,) if times is None else (times, codes))
    order = order[~nameless[order]]
    codes, starts, counts = np.unique(codes[order], return_index=True, return_counts=True)
    steps = np.repeat(codes, counts)
    names = ids.dictionary.take(pa.array(codes))
    if times is not None:
        again = 1 + np.flatnonzero((np.diff(times[order]) == 0) & (np.diff(steps) == 0))
        what = f"rows repeat a time of their series, such as of {_some(ids.dictionary, steps[again])}"
        advice = "keep one row for each time, or name the `id_column` that tells the series apart"
        problems += problem(where, np.sort(order[again]), len(nameless), what, advice)
    result = {"past_values": nested(values[order].ravel(), values.shape[1], counts), "recording": names}
    for key in columns.keys() - {"recording"}:
        cells = columns[key].dictionary_encode().indices.fill_null(-1).to_numpy()[order]
        several = np.unique(steps[cells != np.repeat(cells[starts], counts)])
        name = key.removesuffix("s")
        advice = f"give each part of one {name} an id of its own"
        problems += problem(where, several, len(codes), f"series have more than one {name}", advice, ids.dictionary)
        result[key] = columns[key].take(pa.array(order[starts]))
    return result


def _some(names: pa.Array, places: np.ndarray) -> str:
    return listed([repr(names[int(place)].as_py()) for place in pd.unique(places)])


def _wide(table: pa.Table, channels: list[str], where: str, problems: list[str]) -> pa.ListArray:
    """One row a series: a column of lists (time, channels), or a column of lists for each channel."""
    first = plain(table[channels[0]])
    lengths = pc.list_value_length(first).fill_null(0).to_numpy()
    if len(channels) == 1 and _is_list(first.type.value_type):
        steps = plain(first.flatten())
        widths = pc.list_value_length(steps).fill_null(0).to_numpy()
        return nested(_numbers(steps.flatten(), where, "values", problems), widths, lengths)
    values = []
    for name in channels:
        column = plain(table[name])
        if not _is_list(column.type) or _is_list(column.type.value_type):
            raise ValueError(
                f"{where}: the column {name!r} is of the type {column.type}; values are in one column of lists (time, "
                "channels), or in columns of lists of numbers, one for each channel: name them by `value_columns`."
            )
        rows = np.flatnonzero(pc.list_value_length(column).fill_null(0).to_numpy() != lengths)
        refuse(problem(where, rows, len(table), f"series are not as long in {name!r} as in {channels[0]!r}"))
        values.append(_numbers(column.flatten(), where, f"values of {name!r}", problems))
    return nested(np.stack(values, axis=1).ravel(), len(channels), lengths)


def _numbers(column: pa.Array, where: str, what: str, problems: list[str]) -> np.ndarray:
    """The cells as float64, NaN where there is nothing. Cells that are no numbers are a problem."""
    bad = np.zeros(len(column), bool)
    if _is_text(column.type):
        texts = pc.if_else(pc.is_in(column, _MISSING.cast(column.type)), None, column)
        try:
            numbers = texts.cast(pa.float64())
        except pa.ArrowInvalid:
            numbers = pa.array(pd.to_numeric(texts.to_pandas(), errors="coerce"), from_pandas=True)
            bad = pc.and_(texts.is_valid(), numbers.is_null()).to_numpy(zero_copy_only=False)
    elif pa.types.is_temporal(column.type) or pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        numbers, bad = pa.nulls(len(column), pa.float64()), ~bad
    else:
        numbers = column.cast(pa.float64(), safe=False)
    rows = np.flatnonzero(bad)
    example = repr(str(column[int(rows[0])].as_py())[:40]) if len(rows) else None
    advice = "correct them, leave them empty where a value is missing, or choose channels by `value_columns`"
    problems += problem(where, rows, len(column), f"{what} are no numbers, such as {example}", advice)
    # What is told as no number is not told as missing again.
    return np.where(bad, 0.0, numbers.fill_null(np.nan).to_numpy())


def _times(column: pa.Array, where: str, problems: list[str]) -> np.ndarray:
    """What orders the rows, exact to the last digit: whole numbers, else fractions, else dates as nanoseconds."""
    if _is_text(column.type):
        for kind in (pa.int64(), pa.float64()):
            try:
                column = column.cast(kind)
                break
            except pa.ArrowInvalid:
                pass
        else:
            texts = column.to_pandas()
            dates = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
            read = min(dates, pd.to_numeric(texts, errors="coerce"), key=lambda times: times.isna().sum())
            column = pa.array(read, from_pandas=True)
    elif pa.types.is_temporal(column.type):
        column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"{where}: the time column is of the type {column.type}, neither numbers nor dates.")
    missing = np.flatnonzero(column.is_null(nan_is_null=True))
    what = "times are missing, or neither numbers nor dates as 2020-01-31 12:00:00"
    problems += problem(where, missing, len(column), what)
    # Where that is told, no time is told to be a repeated one.
    return np.arange(len(column)) if len(missing) else column.to_numpy()
