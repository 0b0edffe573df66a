"""Several labels an example, in each form that people have them in, and their cuts."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_primaldual.data.label_sets import check_labels_of_train, has_label_sets, of_labels, with_label_sets
from hf_primaldual.data.splits import cut_by_class, cut_shares

SETS = [["crime"], ["crime", "drama"], [], ["comedy"], ["drama", "comedy"], ["drama"]]
NAMES = ["comedy", "crime", "drama"]
COLUMNS = {name: [int(name in labels) for labels in SETS] for name in NAMES}
NUMBERED = Features({"genres": List(ClassLabel(names=NAMES))})


def splits(rows: dict, features: Features | None = None) -> DatasetDict:
    data = Dataset.from_dict(rows, features=features).add_column("row", list(range(6)))
    return DatasetDict(train=data, test=data)


@pytest.mark.parametrize(
    ("rows", "columns", "separator", "features", "names"),
    [
        ({"genres": SETS}, ["genres"], None, None, NAMES),
        ({"genres": [[NAMES.index(name) for name in row] for row in SETS]}, ["genres"], None, NUMBERED, NAMES),
        ({"genres": [" ; ".join(row) or ";" for row in SETS]}, ["genres"], ";", None, NAMES),
        (COLUMNS, NAMES, None, None, NAMES),
        ({name: [str(bool(flag)) for flag in flags] for name, flags in COLUMNS.items()}, NAMES, None, None, NAMES),
        (
            {"genres": [list(map(float, row)) for row in zip(*COLUMNS.values())]},
            ["genres"],
            None,
            None,
            ["0", "1", "2"],
        ),
        ({"genres": [list(row) for row in zip(*COLUMNS.values())]}, ["genres"], None, None, ["0", "1", "2"]),
    ],
    ids=["names", "numbers", "separator", "columns", "words", "floats", "flags"],
)
def test_every_form_is_the_same_labels(rows, columns, separator, features, names):
    data = splits(rows, features)
    assert has_label_sets(data["train"], columns, separator)
    read = with_label_sets(data, columns, separator)["train"]
    assert (read.column_names, read.features["labels"]) == (["row", "labels"], List(ClassLabel(names=names)))
    assert read["labels"][:] == [sorted(NAMES.index(name) for name in labels) for labels in SETS]


@pytest.mark.parametrize(
    ("train", "test", "columns", "separator", "message"),
    [
        (
            {"genres": [["a"], None, ["b", None]]},
            {"genres": [["c", "a"], ["a"], []]},
            ["genres"],
            None,
            r"the train set: 2 of 3 labels are missing \(rows 1, 2.*empty list; the test set: 1 of 3 examples have "
            r"labels that train lacks: 'c' \(1\) \(row 0",
        ),
        ({"genres": ["a;b", "", "b"]}, None, ["genres"], ";", r"1 of 3 .* missing in 'genres' \(row 1.*has ';' alone"),
        ({"a": [0, 1, 2], "b": [1, None, 0]}, None, ["a", "b"], None, r"'a' are not 0 or 1 \(row 2.*'b' are.*row 1"),
        ({"genres": [";", ";"]}, None, ["genres"], ";", "the train set has no label at all"),
        ({"genres": [[["a"]], [["b"]]]}, None, ["genres"], None, "the train set: the column 'genres' is of the type"),
    ],
)
def test_what_are_no_labels_is_told_at_once(train, test, columns, separator, message):
    data = DatasetDict(train=Dataset.from_dict(train), test=Dataset.from_dict(test or train))
    with pytest.raises(ValueError, match=message):
        with_label_sets(data, columns, separator)


def test_cuts_keep_rare_labels_on_the_training_side():
    rng = np.random.default_rng(0)
    # One label in a hundred examples, one in two of them, and one in a single one.
    common, rare = rng.random(200) < 0.5, np.arange(200) % 100 == 7
    sets = [[0] * bool(often) + [1] * bool(seldom) for often, seldom in zip(common, rare, strict=True)]
    sets[50] = [2]
    features = Features({"labels": List(ClassLabel(names=["often", "seldom", "once"])), "row": Value("int64")})
    data = Dataset.from_dict({"labels": sets, "row": range(200)}, features=features)
    for seed in range(5):
        parts = cut_shares(DatasetDict(train=data), {"test": 0.2, "validation": 0.1}, seed)
        assert {name: len(part) for name, part in parts.items()} == {"train": 140, "validation": 20, "test": 40}
        assert sorted(row for part in parts.values() for row in part["row"]) == list(range(200))
        assert 50 in parts["train"]["row"]
        share = np.mean([0 in labels for labels in parts["test"]["labels"]])
        assert share == pytest.approx(common.mean(), abs=0.05)
    with pytest.raises(
        ValueError, match="a part of 1 must leave examples on both sides of the cut, of 200 of which 1"
    ):
        cut_by_class(data, "a part of 1", train_size=1)
    lacking = DatasetDict(train=data.select(range(50)), test=data.select(range(50, 60)))
    with pytest.raises(ValueError, match=r"no example to train on is left of the labels once; .* by `classes`"):
        check_labels_of_train(lacking)
    chosen = of_labels(lacking, ["seldom", "often"])
    assert chosen["test"]["labels"][0] == []
    assert chosen["train"]["labels"][7] == [int(label == 0) for label in reversed(sets[7])]
    check_labels_of_train(chosen)
