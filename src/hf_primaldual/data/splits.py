"""The splits of a data set: what each must have before it is trained on, and a validation set cut out of the first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow
    from datasets import ClassLabel, Dataset, DatasetDict

# So many rows or classes are named in an error; it counts all.
_NAMED = 5


def problem(where: str, rows: Sequence[int] | np.ndarray, total: int, what: str) -> list[str]:
    """What is wrong with these rows of a split, in one sentence that counts them; nothing where there are none."""
    if not len(rows):
        return []
    return [f"{where}: {len(rows)} of {total} {what} (row{'s' * (len(rows) > 1)} {_listed(rows)}, counted from 0)"]


def _listed(items: Sequence | np.ndarray) -> str:
    return ", ".join(map(str, items[:_NAMED])) + ", ..." * (len(items) > _NAMED)


def column_of(split: "Dataset", name: str) -> "pyarrow.Array":
    """A column at once; the rows of a `Dataset`'s column are read one by one."""
    values = split.select_columns(name).with_format("arrow")[:][name].combine_chunks()
    return getattr(values, "storage", values)


def empty_texts(splits: "DatasetDict", columns: Iterable[str], where: Mapping[str, str]) -> list[str]:
    """The problems of texts that are missing, empty or all blanks, or no texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    problems = []
    for name, split in splits.items():
        for column in columns:
            # In chunks: one array holds no more than two gigabytes of texts.
            texts = split.select_columns(column).with_format("arrow")[:][column]
            if pa.types.is_null(texts.type):
                texts = texts.cast(pa.string())
            if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
                problems.append(f"{where[name]}: the column {column!r} is of the type {texts.type}, not of texts")
                continue
            blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True).to_numpy()
            problems += problem(where[name], np.flatnonzero(blank), len(split), f"texts are empty in {column!r}")
    return problems


def with_classes(
    splits: "DatasetDict",
    column: str = "labels",
    where: Mapping[str, str] | None = None,
    problems: Iterable[str] = (),
) -> "DatasetDict":
    """
    The splits with `labels`, a `ClassLabel` that they share: that of `train`, or else the names or numbers that its
    column has, in their order.

    Args:
        splits: `train` and others.
        column: of the classes.
        where: what errors call a split, such as its file.
        problems: found before, for the same error.

    Raises:
        ValueError: for any problem; for a split without an example, labels that are missing (none, NaN, blank, or -1
            of a `ClassLabel`), classes of which `train` has no example, or a `train` of one class. It tells all.
    """
    from datasets import ClassLabel

    where = {name: f"the {name} set" for name in splits} | dict(where or {})
    problems = list(problems)
    cells = {name: _class_names(split, column, where[name]) for name, split in splits.items()}
    feature = splits["train"].features[column]
    seen = set(cells["train"]) - {None}
    names = feature.names if isinstance(feature, ClassLabel) else sorted(seen, key=_order(seen))
    for name, classes in cells.items():
        if not len(classes):
            problems.append(f"{where[name]} is empty")
        missing = np.flatnonzero([value is None for value in classes])
        problems += problem(where[name], missing, len(classes), "labels are missing")
        unknown = Counter(value for value in classes if value is not None and value not in seen)
        rows = np.flatnonzero([value in unknown for value in classes])
        lacking = _listed([f"{value!r} ({count})" for value, count in sorted(unknown.items())])
        problems += problem(where[name], rows, len(classes), f"examples are of classes that train lacks: {lacking}")
    if len(seen) == 1:
        problems.append(f"{where['train']} has one class alone, {next(iter(seen))!r}")
    if problems:
        raise ValueError(f"the data cannot be trained on: {'; '.join(problems)}.")
    labels, places = ClassLabel(names=names), {name: place for place, name in enumerate(names)}
    for name, split in splits.items():
        kept = split if column == "labels" or "labels" not in split.column_names else split.remove_columns("labels")
        if split.features[column] == labels:
            kept = kept if column == "labels" else kept.rename_column(column, "labels")
        else:
            numbers = [places[value] for value in cells[name]]
            kept = kept.remove_columns(column).add_column("labels", numbers, feature=labels)
        splits = type(splits)({**splits, name: kept})
    return splits


def _class_names(split: "Dataset", column: str, where: str) -> np.ndarray:
    """The name of each example's class, None where it is missing."""
    import pyarrow as pa

    feature, values = split.features[column], column_of(split, column)
    # JSON of several types is kept as an extension of strings.
    kind = split.features.arrow_schema.field(column).type
    if pa.types.is_nested(values.type) or isinstance(kind, pa.BaseExtensionType):
        raise ValueError(f"{where}: the column {column!r} is of the type {kind}, not one class for each row.")
    # Of many rows few are different.
    values = values.dictionary_encode()
    names = [_class_name(value, feature) for value in values.dictionary.to_pylist()]
    # Behind them what a null, -1, finds.
    return np.array([*names, None], dtype=object)[values.indices.fill_null(-1).to_numpy()]


def _class_name(value: Any, feature: "ClassLabel | Any") -> str | None:
    if value is None or value != value:
        return None
    if hasattr(feature, "names"):
        return None if value < 0 else feature.names[value] if value < len(feature.names) else str(value)
    # A column of whole numbers becomes one of fractions where one is missing.
    name = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    # A blank behind a comma makes no other class.
    return name.strip() or None


def _order(names: Iterable[str]):
    """By number where all are numbers, else by letter."""
    try:
        return {name: (float(name), name) for name in names}.__getitem__
    except ValueError:
        return str


def cut_validation(splits: "DatasetDict", share: float, column: str = "labels", seed: int = 0) -> "DatasetDict":
    """
    Cuts a validation set out of the training set, class by class; never out of the test set.

    Args:
        splits: `train` and `test`, with a `ClassLabel` column.
        share: of the training set, between 0 and 1.
        column: the class.
        seed: of the cut; the same for every run, so that runs can be compared on it.

    Raises:
        ValueError: for a share that leaves a class without an example on either side, or a class with one alone.
    """
    train = splits["train"]
    _refuse_single_examples(train, column)
    classes, size = train.features[column].num_classes, round(len(train) * share)
    if not classes <= size <= len(train) - classes:
        raise ValueError(
            f"`validation_share` must leave at least one of the {len(train)} training examples for each of the "
            f"{classes} classes on both sides, got {share}."
        )
    cut = train.train_test_split(test_size=size, stratify_by_column=column, seed=seed)
    return type(splits)(train=cut["train"], validation=cut["test"], test=splits["test"])


def draw(split: "Dataset", size: int | None, column: str = "labels", seed: int = 0) -> "Dataset":
    """
    A part of a split, its classes in the same shares; the whole where `size` is None or as large.

    Raises:
        ValueError: for a size that leaves a class without an example on either side, or a class with one alone.
    """
    if size is None or size >= len(split):
        return split
    _refuse_single_examples(split, column)
    classes = split.features[column].num_classes
    if size < classes:
        raise ValueError(f"a part of {size} examples is too small for {classes} classes; ask for {classes} or more.")
    if len(split) - size < classes:
        raise ValueError(
            f"a part of {size} of {len(split)} examples leaves out too few for {classes} classes; ask for "
            f"{len(split) - classes} or fewer, or for all."
        )
    return split.train_test_split(train_size=size, stratify_by_column=column, seed=seed)["train"]


def _refuse_single_examples(split: "Dataset", column: str) -> None:
    feature = split.features[column]
    counts = np.bincount(column_of(split, column), minlength=feature.num_classes)
    if alone := [feature.names[place] for place in np.flatnonzero(counts == 1)]:
        raise ValueError(
            f"a split is cut by class, and {len(alone)} of its {len(counts)} classes have one example alone: "
            f"{_listed([repr(name) for name in alone])}; add examples, leave the class out, or bring a validation set."
        )


__all__ = ["column_of", "cut_validation", "draw", "empty_texts", "problem", "with_classes"]
