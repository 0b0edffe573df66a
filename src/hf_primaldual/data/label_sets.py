"""Several labels an example, read from a column of lists, a column of texts, or one column of 0 and 1 a label."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, List

from .splits import class_name, column_of, in_order, listed, problem, refuse

# What a cell of one column a label says, by its text.
_FLAGS = {"0": False, "1": True, "False": False, "True": True}


def has_label_sets(split: Dataset, columns: Sequence[str], separator: str | None = None) -> bool:
    """Whether an example has several labels: in a column of lists, in one that a separator parts, or in columns."""
    kind = split.features.arrow_schema.field(columns[0]).type
    return separator is not None or len(columns) > 1 or _is_list(kind)


def with_label_sets(
    splits: DatasetDict,
    columns: Sequence[str],
    separator: str | None = None,
    where: Mapping[str, str] | None = None,
    problems: Iterable[str] = (),
) -> DatasetDict:
    """
    The splits with `labels`, a `List` of the `ClassLabel` that they share, in place of the columns of labels:

    - one column of lists of names, of numbers, or of a `ClassLabel`; rows of zeros and ones are read as one cell a
      label, called by its place;
    - with a `separator` one column of texts, such as `crime;drama`. A text without a label has the separator alone: an
      empty cell is a missing one;
    - several columns, each called as a label and with 0 or 1 in its cells.

    Raises:
        ValueError: For the problems that were found before; for a split without an example, labels that are missing or
            no labels, labels of which `train` has no example, or a `train` without any. It tells all.
    """
    where = {name: f"the {name} set" for name in splits} | dict(where or {})
    problems, cells = list(problems), {}
    for name, split in splits.items():
        read = _of_columns if len(columns) > 1 else _of_texts if separator is not None else _of_lists
        cells[name], found = read(split, columns, separator, where[name])
        problems += found
    feature = getattr(splits["train"].features[columns[0]], "feature", None)
    seen = {label for labels in cells["train"] if labels is not None for label in labels}
    if len(columns) > 1:
        names = list(columns)
    else:
        names = feature.names if isinstance(feature, ClassLabel) else sorted(seen, key=in_order(seen))
    for name, sets in cells.items():
        if not sets:
            problems.append(f"{where[name]} is empty")
        unknown = Counter(label for labels in sets if labels is not None for label in labels if label not in seen)
        rows = [row for row, labels in enumerate(sets) if labels is not None and not unknown.keys().isdisjoint(labels)]
        lacking = listed([f"{label!r} ({count})" for label, count in sorted(unknown.items())])
        problems += problem(where[name], rows, len(sets), f"examples have labels that train lacks: {lacking}")
    if not seen:
        problems.append(f"{where['train']} has no label at all")
    refuse(problems)
    labels, places = List(ClassLabel(names=names)), {name: place for place, name in enumerate(names)}
    named = DatasetDict()
    for name, split in splits.items():
        old = {*columns, "labels"}.intersection(split.column_names)
        numbers = [sorted({places[label] for label in labels}) for labels in cells[name]]
        named[name] = split.remove_columns(sorted(old)).add_column("labels", numbers, feature=labels)
    return named


def of_labels(splits: DatasetDict, names: Sequence[str]) -> DatasetDict:
    """The splits with these labels alone; examples that have none of them stay, without a label."""
    old = splits["train"].features["labels"].feature.names
    places = {old.index(name): place for place, name in enumerate(names)}
    labels, kept = List(ClassLabel(names=list(names))), DatasetDict()
    for name, split in splits.items():
        sets = [sorted(places[label] for label in row if label in places) for row in split["labels"]]
        kept[name] = split.remove_columns("labels").add_column("labels", sets, feature=labels)
    return kept


def check_labels_of_train(splits: DatasetDict) -> None:
    """Raises `ValueError` where a label that another split has was cut or drawn out of `train`."""
    seen = {name: pc.unique(column_of(split, "labels").flatten()).to_pylist() for name, split in splits.items()}
    lacking = {place for places in seen.values() for place in places}.difference(seen["train"])
    if lacking:
        names = splits["train"].features["labels"].feature.names
        raise ValueError(
            f"no example to train on is left of the labels {listed([names[place] for place in sorted(lacking)])}; "
            "train on more, bring a validation set, or leave the labels out by `classes`."
        )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _of_lists(split: Dataset, columns: Sequence[str], _: str | None, where: str) -> tuple[list, list[str]]:
    (column,) = columns
    feature, values = getattr(split.features[column], "feature", None), column_of(split, column)
    if not _is_list(values.type) or pa.types.is_nested(values.type.value_type):
        kind = split.features.arrow_schema.field(column).type
        raise ValueError(f"{where}: the column {column!r} is of the type {kind}, not of lists of labels.")
    cells = values.to_pylist()
    if not isinstance(feature, ClassLabel) and _are_flags(cells):
        cells = [None if row is None else [place for place, flag in enumerate(row) if flag] for row in cells]
    sets = [None if row is None else [class_name(cell, feature) for cell in row] for row in cells]
    missing = [row for row, labels in enumerate(sets) if labels is None or None in labels]
    sets = [None if labels is None or None in labels else labels for labels in sets]
    advice = "an example without a label has an empty list"
    return sets, problem(where, missing, len(sets), "labels are missing", advice)


def _are_flags(cells: list) -> bool:
    """Whether each row is a vector of zeros and ones: labels themselves are in a list once."""
    rows = [row for row in cells if row]
    values = {value for row in rows for value in row}
    vectors = values <= {0, 1} and len({len(row) for row in rows}) == 1
    return vectors and any(len(set(row)) < len(row) or isinstance(row[0], bool | float) for row in rows)


def _of_texts(split: Dataset, columns: Sequence[str], separator: str, where: str) -> tuple[list, list[str]]:
    (column,) = columns
    feature, values = split.features[column], column_of(split, column)
    if pa.types.is_nested(values.type):
        raise ValueError(f"{where}: the column {column!r} is of the type {values.type}, which no separator parts.")
    texts = [class_name(value, feature) for value in values.to_pylist()]
    sets = [text and [label for part in text.split(separator) if (label := part.strip())] for text in texts]
    missing = [row for row, labels in enumerate(sets) if labels is None]
    advice = f"a text without a label has {separator!r} alone"
    return sets, problem(where, missing, len(sets), f"labels are missing in {column!r}", advice)


def _of_columns(split: Dataset, columns: Sequence[str], _: str | None, where: str) -> tuple[list, list[str]]:
    sets: list[list[str] | None] = [[] for _ in range(len(split))]
    problems: list[str] = []
    for column in columns:
        flags = [_FLAGS.get(class_name(value, None)) for value in column_of(split, column).to_pylist()]
        for labels, flag in zip(sets, flags, strict=True):
            if flag:
                labels.append(column)
        wrong = [row for row, flag in enumerate(flags) if flag is None]
        problems += problem(where, wrong, len(split), f"cells of {column!r} are not 0 or 1")
    return sets, problems
