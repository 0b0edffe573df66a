"""The splits of a data set: what each must have before it is trained on, and cuts of them by class."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, List
from sklearn.model_selection import train_test_split

# By these a data set calls its classes where nothing else is said.
LABEL_NAMES = ("labels", "label", "y", "class", "target", "fine_label")
# So many rows or classes are named in an error; it counts all.
_NAMED = 5


def problem(
    where: str,
    rows: Sequence[int] | np.ndarray,
    total: int,
    what: str,
    advice: str | None = None,
    ids: pa.Array | None = None,
) -> list[str]:
    """
    What is wrong with these rows of a split, in one sentence that counts them, and what to do; nothing where there are
    none. They are named by their `ids`, if there are any.
    """
    if not len(rows):
        return []
    plural = "s" * (len(rows) > 1)
    if ids is None:
        named = f"row{plural} {listed(rows)}, counted from 0"
    else:
        named = f"id{plural} {listed([repr(name) for name in ids.take(pa.array(rows)).to_pylist()])}"
    return [f"{where}: {len(rows)} of {total} {what} ({named})" + (f", {advice}" if advice else "")]


def refuse(problems: list[str]) -> None:
    """Raises a `ValueError` that tells all problems, if there are any."""
    if problems:
        raise ValueError(f"the data cannot be trained on: {'; '.join(problems)}.")


def column_of(split: Dataset, name: str) -> pa.Array:
    """A column at once; the rows of a `Dataset`'s column are read one by one."""
    values = split.select_columns(name).with_format("arrow")[:][name].combine_chunks()
    return getattr(values, "storage", values)


def ids_of(split: Dataset) -> pa.Array | None:
    """What a split's series are called, where that is more than their row numbers."""
    ids = column_of(split, "recording") if "recording" in split.column_names else None
    return None if ids is None or ids.equals(pa.array(np.arange(len(ids)))) else ids


def class_names(feature: ClassLabel | List) -> list[str]:
    """The names of `labels`, of one class or of several labels an example."""
    return getattr(feature, "feature", feature).names


def empty_texts(splits: DatasetDict, columns: Iterable[str], where: Mapping[str, str]) -> list[str]:
    """The problems of texts that are missing, empty or all blanks, or no texts."""
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
    splits: DatasetDict,
    column: str = "labels",
    where: Mapping[str, str] | None = None,
    problems: Iterable[str] = (),
    at_least: int = 1,
) -> DatasetDict:
    """
    The splits with `labels`, a `ClassLabel` that they share, in place of the column of classes: that of `train`, or
    else the names or numbers that its column has, in their order. `where` is what errors call a split, `at_least` how
    many examples `train` must have of each class: more than one where it is cut by class.

    Raises:
        ValueError: For the problems that were found before; for a split without an example, labels that are missing
            (none, NaN, blank, or -1 of a `ClassLabel`), classes of which `train` has no example, or a `train` of one
            class. It tells all.
    """
    where = {name: f"the {name} set" for name in splits} | dict(where or {})
    problems = list(problems)
    cells = {name: _class_names(split, column, where[name]) for name, split in splits.items()}
    feature = splits["train"].features[column]
    seen = set(cells["train"]) - {None}
    names = feature.names if isinstance(feature, ClassLabel) else sorted(seen, key=in_order(seen))
    for name, classes in cells.items():
        ids = ids_of(splits[name])
        if not len(classes):
            problems.append(f"{where[name]} is empty")
        missing = np.flatnonzero([value is None for value in classes])
        problems += problem(where[name], missing, len(classes), "labels are missing", ids=ids)
        unknown = Counter(value for value in classes if value is not None and value not in seen)
        rows = np.flatnonzero([value in unknown for value in classes])
        lacking = listed([f"{value!r} ({count})" for value, count in sorted(unknown.items())])
        what = f"examples are of classes that train lacks: {lacking}"
        problems += problem(where[name], rows, len(classes), what, ids=ids)
    if few := [f"{name!r} ({count})" for name, count in Counter(cells["train"]).items() if name and count < at_least]:
        problems.append(
            f"{where['train']}: {len(few)} of {len(seen)} classes have fewer than {at_least} examples, as many as the "
            f"parts of the cut: {listed(few)}; add examples, leave the classes out, or bring the other sets"
        )
    if len(seen) == 1:
        problems.append(f"{where['train']} has one class alone, {next(iter(seen))!r}")
    refuse(problems)
    labels, places = ClassLabel(names=names), {name: place for place, name in enumerate(names)}
    named = DatasetDict()
    for name, split in splits.items():
        old = {column, "labels"}.intersection(split.column_names)
        numbers = [places[value] for value in cells[name]]
        named[name] = split.remove_columns(sorted(old)).add_column("labels", numbers, feature=labels)
    return named


def cut_by_class(
    split: Dataset, what: str, train_size: int | None = None, test_size: int | None = None, seed: int = 0
) -> DatasetDict:
    """
    Two parts of a split, `train` and `test`, with its classes in the same shares. The part without a size is the rest;
    `what` is the setting with its value that asks for the sizes, for errors.

    Where examples have several labels, each counts for its rarest one, and the only example of a label is in `train`.

    Raises:
        ValueError: A part would lack a class, or a class has one example alone.
    """
    feature = split.features["labels"]
    if not isinstance(feature, ClassLabel):
        return _cut_by_rarest_label(split, what, train_size, test_size, seed)
    counts = np.bincount(column_of(split, "labels"), minlength=feature.num_classes)
    if alone := [feature.names[place] for place in np.flatnonzero(counts == 1)]:
        raise ValueError(
            f"a split is cut by class, and {len(alone)} of its {len(counts)} classes have one example alone: "
            f"{listed([repr(name) for name in alone])}; add examples, leave the class out, or bring a validation set."
        )
    train_size = len(split) - test_size if train_size is None else train_size
    test_size = len(split) - train_size if test_size is None else test_size
    if min(train_size, test_size) < len(counts) or train_size + test_size > len(split):
        raise ValueError(
            f"{what} must leave at least one of the {len(split)} examples for each of the {len(counts)} classes on "
            "both sides of the cut."
        )
    return split.train_test_split(test_size, train_size, stratify_by_column="labels", seed=seed)


def _cut_by_rarest_label(
    split: Dataset, what: str, train_size: int | None, test_size: int | None, seed: int
) -> DatasetDict:
    labels = column_of(split, "labels")
    of_row = np.repeat(np.arange(len(labels)), pc.list_value_length(labels).to_numpy())
    labels = labels.flatten().to_numpy()
    counts = np.bincount(labels, minlength=1)
    stratum = np.full(len(split), -1)
    # The rarest is written last.
    order = np.argsort(-counts[labels], kind="stable")
    stratum[of_row[order]] = labels[order]
    kept = np.unique(of_row[counts[labels] == 1])
    rest = np.setdiff1d(np.arange(len(split)), kept)
    test_size = len(split) - train_size if test_size is None else test_size
    train_size = (len(split) - test_size if train_size is None else train_size) - len(kept)
    if min(train_size, test_size) < 1 or train_size + test_size > len(rest):
        raise ValueError(
            f"{what} must leave examples on both sides of the cut, of {len(split)} of which {len(kept)} have a label "
            "that no other has and are trained on."
        )
    codes = np.unique(stratum[rest], return_inverse=True)[1]
    # The two smallest become one until all are large enough to be on both sides.
    while (sizes := np.bincount(codes)).size > 1 and (sizes.min() < 2 or sizes.size > min(train_size, test_size)):
        first, second = np.argsort(sizes, kind="stable")[:2]
        codes = np.unique(np.where(codes == first, second, codes), return_inverse=True)[1]
    train, test = train_test_split(rest, train_size=train_size, test_size=test_size, stratify=codes, random_state=seed)
    return DatasetDict(train=split.select(np.concatenate([kept, train])), test=split.select(test))


def cut_shares(
    splits: DatasetDict,
    shares: Mapping[str, float | None],
    seed: int = 0,
    cut: Callable[..., DatasetDict] = cut_by_class,
) -> DatasetDict:
    """
    The splits with those of `shares` that are not there and have a share, of the size of `train`, cut out of it, one
    after the other; never out of the test set. The seed is the same for every run, so that runs can be compared.
    Raises what `cut` does.
    """
    splits, whole = DatasetDict(splits), len(splits["train"])
    for name, share in shares.items():
        if share is not None and name not in splits:
            size = round(whole * share)
            parts = cut(splits["train"], f"`{name}_share` = {share}", test_size=size, seed=seed)
            splits["train"], splits[name] = parts["train"], parts["test"]
    return DatasetDict({name: splits[name] for name in ("train", "validation", "test") if name in splits})


def cut_validation(splits: DatasetDict, share: float, seed: int = 0) -> DatasetDict:
    """The splits with a share of the training set cut out as `validation`, class by class; see `cut_shares`."""
    return cut_shares(splits, {"validation": share}, seed)


def draw(split: Dataset, size: int | None, seed: int = 0) -> Dataset:
    """
    A part of a split, its classes in the same shares; the whole where `size` is None or as large. Raises what
    `cut_by_class` does.
    """
    if size is None or size >= len(split):
        return split
    return cut_by_class(split, f"a part of {size}", train_size=size, seed=seed)["train"]


def listed(items: Sequence | np.ndarray) -> str:
    """The first of many."""
    return ", ".join(map(str, items[:_NAMED])) + ", ..." * (len(items) > _NAMED)


def _class_names(split: Dataset, column: str, where: str) -> np.ndarray:
    """The name of each example's class, None where it is missing."""
    feature, values = split.features[column], column_of(split, column)
    # JSON of several types is kept as an extension of strings.
    kind = split.features.arrow_schema.field(column).type
    if pa.types.is_nested(values.type) or isinstance(kind, pa.BaseExtensionType):
        raise ValueError(f"{where}: the column {column!r} is of the type {kind}, not one class for each row.")
    # Of many rows few are different.
    values = values.dictionary_encode()
    names = [class_name(value, feature) for value in values.dictionary.to_pylist()]
    # A null becomes -1, which finds the None at the end.
    return np.array([*names, None], dtype=object)[values.indices.fill_null(-1).to_numpy()]


def class_name(value: Any, feature: Any) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(feature, ClassLabel):
        return None if value < 0 else feature.names[value] if value < len(feature.names) else str(value)
    # A column of whole numbers becomes one of fractions where one is missing.
    name = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    # A blank behind a comma makes no other class.
    return name.strip() or None


def in_order(names: Iterable[str]) -> Callable[[str], Any]:
    """By number where all are numbers, else by letter."""
    try:
        return {name: (float(name), name) for name in names}.__getitem__
    except ValueError:
        return str
