"""Series with classes from whatever people have them in, as `datasets` in the one form that models are trained on."""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, IterableDataset
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.class_weight import compute_class_weight

from ..modeling.keywords_primal_dual import unexpected
from .sources import load_splits
from .splits import column_of, cut_by_class, cut_shares, ids_of, listed, problem, refuse, with_classes
from .tables import TABLES, SeriesLayout, as_column, nested, read_table, series_of_table, suffix_of, table_of_frame
from .uea import load_ts
from .windows import check_window_settings, cut_series, too_long_problems

FILES = (*TABLES, ".npz", ".npy", ".ts")
# Of an `.npz` file or a dictionary of arrays.
_VALUE_NAMES = ("X", "past_values", "x", "series", "values", "data", "arr_0")
_GROUP_NAMES = ("groups", "group")


def series_dataset(
    train: Any,
    labels: Any = None,
    groups: Any = None,
    *,
    validation: Any = None,
    test: Any = None,
    validation_share: float | None = None,
    test_share: float | None = None,
    window: int | None = None,
    stride: int | None = None,
    max_steps: int | None = None,
    too_long: str = "refuse",
    missing_values: str = "error",
    seed: int = 0,
    **layout: Any,
) -> DatasetDict:
    """Read a classification task of time series from anything, and look at all of it.

    Args:
        train: The training series, or all splits. Values are read as float64: near a large offset float32 would lose
            them.

            - a list of arrays (time, channels), of any lengths, or one array (series, time, channels); a flat one
              needs `rows_are`. Where a series of one array ends in steps without any value (NaN), it is padded;
            - a table: a DataFrame, an Arrow or polars table, a `Dataset`, or a `.csv`, `.tsv`, `.parquet` or `.jsonl`
              file; long, one row a step, which is sorted by time, or wide, with lists in its columns;
            - an `.npz` file or a dictionary of arrays such as `X` and `y`, an `.npy` file, a `.ts` file;
            - a `DatasetDict`, or a folder or an id of the Hub, as `load_dataset` reads it, with its splits.
        labels, groups: The class and the group (subject) of each series, where `train` does not hold them. For a long
            table, a Series of pandas is looked up by id; all else is in the order in which the ids first come.
        validation, test: The other splits, in any of these forms, or a tuple of series, labels and maybe groups.
        validation_share, test_share: The share of the training series that is cut out where there is no such split: by
            class, and if there are groups, each group on one side, as near to the share as the groups allow.
        window, stride, max_steps, too_long: Windows of long series, and what becomes of those that exceed the model's
            positions: see [`cut_series`]. Splits are cut before, so that a series is in one alone.
        missing_values: `"error"` refuses NaN; `"mean"` keeps it, for the feature extractor to fill in.
        seed: Of the cuts.
        layout: Fields of [`SeriesLayout`]: which columns a table has, and which axes an array.

    Returns:
        Splits `train` and, where asked for, `validation` and `test`, with the columns `past_values`, lists (time,
        channels) of float64; `labels`, a `ClassLabel`; `recording`, the id or the row of the series it is, or is a
        window of; and `group` where there are groups.

    Raises:
        TypeError: A keyword is unknown; the error names the nearest.
        FileNotFoundError: There is no such file.
        ValueError: A file or an array cannot be read, with what is missing; or the data cannot be trained on, with all
            that is wrong in all splits: where, which rows or ids, how many, and the way out.
    """
    layout = _layout(layout)
    if missing_values not in ("error", "mean"):
        raise ValueError(f"`missing_values` must be error or mean, got {missing_values!r}.")
    check_window_settings(window, stride, max_steps, too_long)
    sources = _splits(train, labels, groups)
    sources |= {name: source for name, source in (("validation", validation), ("test", test)) if source is not None}
    limit = max_steps if too_long == "refuse" and window is None else None
    where = {name: _where(source, name) for name, source in sources.items()}
    splits, width, found = DatasetDict(), None, []
    problems: list[str] = []
    for name, source in sources.items():
        split, channels = _read(source, layout, where[name], problems)
        found.append(channels)
        column = column_of(split, "past_values")
        if name == "train":
            width = _width(column)
            problems += _channel_problems(column, width, channels, where[name])
            # In another order of its columns a table would have other channels.
            layout = replace(layout, value_columns=channels or layout.value_columns)
        ids = ids_of(split)
        problems += series_problems(column, width, missing_values, where[name], ids, layout.channels_first)
        problems += too_long_problems(column, limit, where[name], ids)
        if "labels" not in split.column_names:
            problems.append(f"{where[name]} has no labels: name their column by `label_column`, or pass `labels`")
        if "group" in split.column_names:
            nameless = pc.fill_null(pc.equal(column_of(split, "group").cast(pa.string()), ""), True)
            problems += problem(where[name], np.flatnonzero(nameless), len(split), "series have no group", ids=ids)
        splits[name] = split
    problems += _unused(layout, found, where["train"])
    if any("labels" not in split.column_names for split in splits.values()):
        refuse(problems)
    _warn_of_groups_on_both_sides(splits, where)
    shares = {"test": test_share, "validation": validation_share}
    cuts = sum(share is not None and name not in splits for name, share in shares.items())
    splits = with_classes(splits, where=where, problems=problems, at_least=1 + cuts)
    cut = _cut_by_group if "group" in splits["train"].column_names else cut_by_class
    splits = cut_shares(splits, shares, seed, cut)
    windows: dict[str, Any] = {"window": window, "stride": stride, "max_steps": max_steps, "too_long": too_long}
    return DatasetDict({name: cut_series(split, **windows) for name, split in splits.items()})


def read_series(
    source: Any, labels: Any = None, groups: Any = None, *, may_lack_labels: bool = False, **layout: Any
) -> Dataset:
    """
    Read one split, as [`series_dataset`] reads it; it needs no labels, and NaN stays: what is to be predicted. With
    `may_lack_labels` it need not have the `label_column` either, which data that were trained on had.
    """
    layout, where = _layout(layout), _where(source, "given")
    problems: list[str] = []
    if labels is not None or groups is not None:
        source = (source, labels, groups)
    split, channels = _read(source, layout, where, problems, may_lack_labels)
    problems += _unused(layout, [channels], where)
    column = column_of(split, "past_values")
    problems += series_problems(column, _width(column), "mean", where, ids_of(split), layout.channels_first)
    refuse(problems)
    return split


def series_arrays(split: Dataset) -> list[np.ndarray]:
    """The series of a split as arrays (time, channels), at once: one by one, `datasets` takes 100 times as long."""
    column = column_of(split, "past_values")
    values = column.flatten().flatten().cast(pa.float64()).fill_null(np.nan).to_numpy()
    ends = np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    return np.split(values.reshape(-1, _width(column)), ends[:-1])


def class_weights(split: Dataset) -> np.ndarray:
    """The weight of each class in a loss that makes them count alike: many examples, a small weight; none, zero."""
    labels = column_of(split, "labels").to_numpy()
    weights, seen = np.zeros(split.features["labels"].num_classes), np.unique(labels)
    weights[seen] = compute_class_weight("balanced", classes=seen, y=labels)
    return weights


def series_problems(
    column: pa.Array,
    channels: int,
    missing_values: str,
    where: str,
    ids: pa.Array | None = None,
    channels_first: bool = False,
) -> list[str]:
    """What is wrong with the series of a split, lists (time, channels)."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    steps = column.flatten()
    widths = pc.list_value_length(steps).fill_null(0).to_numpy()
    values = steps.flatten().cast(pa.float64()).fill_null(np.nan).to_numpy()
    # Which series a step and a value are of.
    of_step = np.repeat(np.arange(len(column)), lengths)
    of_value = np.repeat(of_step, widths)
    others = np.unique(of_step[widths != channels])
    swapped = len(others) and ((lengths == lengths[0]).all() or (lengths[others] == channels).all())
    axes = "(time, channels)" if channels_first else "(channels, time)"
    swap = f"`channels_first={not channels_first}` if they are {axes}" if swapped else None
    found = [
        ("series have no step", np.flatnonzero(lengths == 0), "leave them out"),
        (f"series are not of {channels} channels, as the first is", others, swap),
        ("series have infinite values", np.unique(of_value[np.isinf(values)]), "correct or empty them"),
    ]
    if missing_values == "error":
        fix = "`--missing_values mean` or `missing_values='mean'` makes the channel's training mean"
        found.append((f"series have missing values, which {fix}", np.unique(of_value[np.isnan(values)]), None))
    else:
        valued = np.bincount(of_value[~np.isnan(values)], minlength=len(column))
        found.append(("series have no value at all", np.flatnonzero((lengths > 0) & (valued == 0)), "leave them out"))
    return [text for what, rows, fix in found for text in problem(where, rows, len(column), what, fix, ids)]


def _width(column: pa.Array) -> int:
    """The channels of the first series."""
    return next((len(series[0]) for series in column if series.is_valid and len(series)), 1)


def _layout(given: dict[str, Any]) -> SeriesLayout:
    known = [field.name for field in fields(SeriesLayout)]
    for name in given:
        if name not in known:
            raise TypeError(f"series_dataset got {unexpected(name, known)}")
    return SeriesLayout(**given)


def _splits(train: Any, labels: Any, groups: Any) -> dict[str, Any]:
    """The sources of the splits that `train` holds."""
    if isinstance(train, str | PathLike) and suffix_of(Path(train)) not in FILES and not Path(train).is_file():
        train = load_splits(train)
    if labels is not None or groups is not None:
        return {"train": (train, labels, groups)}
    if not (isinstance(train, Mapping) and ("train" in train or isinstance(train, DatasetDict))):
        return {"train": train}
    if "train" not in train:
        raise ValueError(f"one of the splits must be called train, got {listed(list(train))}.")
    return {name: train[name] for name in ("train", "validation", "test") if name in train}


def _where(source: Any, split: str) -> str:
    """What errors call a source."""
    source = source[0] if isinstance(source, tuple) else source
    return str(source) if isinstance(source, str | PathLike) else f"the {split} set"


def _unused(layout: SeriesLayout, channels: Iterable[Sequence[str]], where: str) -> list[str]:
    """What is wrong where columns are named, and no source, each of which has `channels` if it is a table, has any."""
    named = [name for name in ("id_column", "time_column") if getattr(layout, name) is not None]
    if any(channels) or not named:
        return []
    return [f"{where} is no table: `{'` and `'.join(named)}` must be left out, which name columns of one"]


def _read(
    source: Any, layout: SeriesLayout, where: str, problems: list[str], may_lack_labels: bool = False
) -> tuple[Dataset, Sequence[str]]:
    """A split with the columns that `series_dataset` returns, as far as it has them, and a table's channels."""
    source, *given = source if isinstance(source, tuple) else (source,)
    if len(given) > 2 or any(isinstance(values, str) for values in given):
        raise ValueError(
            f"{where}: a tuple is of series, their labels and their groups, one a series; series are in a list, and "
            "columns are named by `label_column` and `group_column`."
        )
    given = {name: values for name, values in zip(("labels", "group"), given, strict=False) if values is not None}
    if isinstance(source, str | PathLike):
        source = _open(Path(source))
    if may_lack_labels and layout.label_column not in _names(source):
        layout = replace(layout, label_column=None)
    feature, channels = None, ()
    if isinstance(source, Mapping) and not isinstance(source, DatasetDict):
        names = {
            "past_values": layout.value_columns or _VALUE_NAMES,
            "labels": layout.label_names,
            "group": (layout.group_column,) if layout.group_column else _GROUP_NAMES,
        }
        found = {key: [name for name in options if name in source] for key, options in names.items()}
        named = {"past_values": True, "labels": layout.label_column, "group": layout.group_column}
        if absent := [names[key][0] for key in names if named[key] and not found[key]]:
            raise ValueError(
                f"{where} has no array {listed([repr(name) for name in absent])}; it has {listed(sorted(source))}: "
                "name that of series by `value_columns`, of classes by `label_column`, of groups by `group_column`."
            )
        given = {key: source[options[0]] for key, options in found.items() if options} | given
        source = given.pop("past_values")
    elif isinstance(source, Dataset):
        feature = next((source.features[name] for name in layout.label_names if name in source.features), None)
        source = pa.table({name: column_of(source, name) for name in source.column_names})
    elif isinstance(source, pd.DataFrame):
        source, layout = table_of_frame(source, layout, where, problems)
    elif hasattr(source, "__arrow_c_stream__"):
        source = pa.table(source)
    elif not hasattr(source, "__iter__") or isinstance(source, DatasetDict | IterableDataset):
        raise ValueError(f"{where} must be series, a table or a file as `series_dataset` tells, got {type(source)}.")
    if isinstance(source, pa.Table):
        columns, channels = series_of_table(source, layout, where, problems, has_labels="labels" in given)
        if layout.channels_first:
            columns["past_values"] = _arrays(columns["past_values"].to_pylist(), layout, where, problems)
        if layout.id_column is not None:
            ids = columns["recording"].to_pylist()
            given = {key: v.reindex(ids) if isinstance(v, pd.Series) else v for key, v in given.items()}
    else:
        columns = {"past_values": _arrays(source, layout, where, problems)}
        columns["recording"] = pa.array(np.arange(len(columns["past_values"])))
    for key, values in given.items():
        columns[key] = as_column(values, where, key, problems)
        if len(columns[key]) != len(columns["past_values"]):
            raise ValueError(f"{where}: {len(columns[key])} {key} for {len(columns['past_values'])} series.")
    if isinstance(feature, ClassLabel) and "labels" not in given:
        columns["labels"] = columns["labels"].cast(feature.pa_type)
        info = DatasetInfo(features=Features(Dataset(pa.table(columns)).features | {"labels": feature}))
        return Dataset(pa.table(columns), info), channels
    return Dataset(pa.table(columns)), channels


def _names(source: Any) -> Collection[str]:
    """Of a table's columns and its index, or of the arrays of a file."""
    if isinstance(source, pd.DataFrame):
        return [*source.columns, *source.index.names]
    return source if isinstance(source, Mapping) else getattr(source, "column_names", ())


def _open(path: Path) -> Any:
    """What a file holds."""
    if suffix_of(path) not in FILES:
        raise ValueError(f"{path} must end in one of {', '.join(FILES)}.")
    if suffix_of(path) in TABLES:
        return read_table(path)
    if path.suffix == ".ts":
        return load_ts(path)
    try:
        loaded = np.load(path)
        return dict(loaded) if path.suffix == ".npz" else loaded
    except ValueError as error:
        advice = "pad series of unequal length with NaN to one array, or write a parquet file with lists"
        raise ValueError(f"{path} cannot be read: {error}; {advice}.") from error


def _arrays(source: Iterable, layout: SeriesLayout, where: str, problems: list[str]) -> pa.ListArray:
    """Series out of a list of arrays or out of one array."""
    arrays, broken = [], {}
    for row, one in enumerate(source):
        try:
            arrays.append(_floats(one))
        except (TypeError, ValueError) as error:
            arrays.append(None)
            broken[row] = error
    sound = [array for array in arrays if array is not None]
    what = f"series are no arrays of numbers (time, channels), the first as {next(iter(broken.values()), None)}"
    problems += problem(where, list(broken), len(arrays), what)
    if not sound:
        refuse([*problems, *([] if arrays else [f"{where} holds no series"])])
    # What is broken is told, and else as the first.
    arrays = [sound[0] if array is None else array for array in arrays]
    shapes = {array.shape for array in arrays}
    channels_first = layout.channels_first
    if {len(shape) for shape in shapes} == {1}:
        if layout.rows_are is None and len(shapes) == 1:
            raise ValueError(
                f"{where} is flat, of shape {(len(arrays), *shapes.pop())}: its rows are either the steps of one "
                "series, `rows_are='steps'`, or univariate series, `rows_are='series'`; say which."
            )
        if layout.rows_are == "steps":
            arrays = [np.stack(arrays)]
        else:
            arrays, channels_first = [array[:, None] for array in arrays], False
    elif any(len(shape) != 2 for shape in shapes):
        rows = [row for row, array in enumerate(arrays) if array.ndim != 2]
        what = f"series are not (time, channels), but of shape {arrays[rows[0]].shape}"
        refuse(problem(where, rows, len(arrays), what, "several series are in a list, and so is a single one"))
    if channels_first:
        arrays = [array.T for array in arrays]
    if hasattr(source, "ndim"):
        # One array holds series of unequal length padded.
        arrays = [array[: 1 + max(np.flatnonzero(~np.isnan(array).all(1)), default=len(array))] for array in arrays]
    lengths, widths = np.array([array.shape for array in arrays]).T
    if not layout.channels_first and (widths > lengths).all():
        warnings.warn(
            f"{where}: every series has more channels than steps, the first {widths[0]} and {lengths[0]}; if they are "
            "(channels, time), set `channels_first`.",
            stacklevel=4,
        )
    return nested(np.concatenate([array.ravel() for array in arrays]), np.repeat(widths, lengths), lengths)


def _floats(values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    if np.iscomplexobj(values):
        raise TypeError("complex numbers have two parts, which are two channels")
    return np.asarray(values, np.float64)


def _channel_problems(column: pa.Array, width: int, names: Sequence[str], where: str) -> list[str]:
    """What is wrong with channels of the training set. One that never changes is no error, but worth a warning."""
    if (pc.list_value_length(column.flatten()).fill_null(0).to_numpy() != width).any():
        return []
    values = column.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    if not len(values):
        return []
    names = np.array(names if len(names) == width else range(width))
    low, high = np.fmin.reduce(values), np.fmax.reduce(values)
    told = {"have no value at all": np.isnan(low), "never change": low == high}
    told = {
        what: f"{where}: {chosen.sum()} of {width} channels {what}: {listed(names[chosen])}; leave them out"
        for what, chosen in told.items()
        if chosen.any()
    }
    if "never change" in told:
        warnings.warn(told.pop("never change"), stacklevel=3)
    return list(told.values())


def _warn_of_groups_on_both_sides(splits: DatasetDict, where: dict[str, str]) -> None:
    groups = {name: set(split["group"]) for name, split in splits.items() if "group" in split.column_names}
    for name in groups.keys() - {"train"}:
        if both := groups[name] & groups.get("train", set()):
            warnings.warn(
                f"{where[name]} has {len(both)} groups that the training set has too, such as {min(both, key=str)!r}: "
                "what a model makes of them says little of others",
                stacklevel=3,
            )


def _cut_by_group(split: Dataset, what: str, test_size: int, seed: int) -> DatasetDict:
    """Two parts, `train` and `test`, with each group on one side, of all classes, and the second about as large."""
    labels = column_of(split, "labels").to_numpy()
    groups = pd.factorize(column_of(split, "group").to_pandas())[0]
    count = min(round(len(split) / max(test_size, 1)), groups.max() + 1, np.bincount(labels).max())
    with warnings.catch_warnings():
        # Of classes in few groups.
        warnings.simplefilter("ignore")
        splitter = StratifiedGroupKFold(max(count, 2), shuffle=True, random_state=seed)
        cuts = list(splitter.split(labels, labels, groups)) if groups.max() else []
    whole = [cut for cut in cuts if all(set(labels[side]) == set(labels) for side in cut)]
    if not whole or not 0 < test_size < len(split):
        raise ValueError(
            f"{what} must leave examples of each class on both sides of the cut, and none of the {groups.max() + 1} "
            "groups on both, which no cut does; add groups, or bring the other set."
        )
    rest, part = min(whole, key=lambda cut: abs(len(cut[1]) - test_size))
    return DatasetDict(train=split.select(rest), test=split.select(part))
