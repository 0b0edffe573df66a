"""Series from whatever people have them in: real series in every form, and small ones with all that may be wrong."""

import re

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor
from hf_primaldual.data import class_weights, cut_series, load_uea, read_series, series_arrays, series_dataset, vote
from tests.data.test_uea import aeon_file

LONG = {"id_column": "id", "time_column": "time", "label_column": "label"}


@pytest.fixture(scope="module")
def vowels() -> tuple[list[np.ndarray], list[str]]:
    """Real series of 7 to 26 steps of 12 channels, and the names of their classes."""
    split = load_uea("JapaneseVowels")["train"]
    return [np.array(one) for one in split["past_values"]], split.features["labels"].int2str(split["labels"])


def long_frame(series: list[np.ndarray], labels: list[str]) -> pd.DataFrame:
    lengths = [len(one) for one in series]
    steps = pd.DataFrame(np.concatenate(series), columns=[f"c{channel}" for channel in range(series[0].shape[1])])
    return steps.assign(
        id=np.repeat([f"s{row:03d}" for row in range(len(series))], lengths),
        time=np.concatenate([np.arange(length) for length in lengths]),
        label=np.repeat(labels, lengths),
    )


def padded(series: list[np.ndarray]) -> np.ndarray:
    array = np.full((len(series), max(map(len, series)), series[0].shape[1]), np.nan)
    for row, values in enumerate(series):
        array[row, : len(values)] = values
    return array


def in_form(form: str, series: list[np.ndarray], labels: list[str], folder) -> tuple[tuple, dict]:
    """What to pass to `series_dataset`."""
    frame = long_frame(series, labels)
    by_channel = {f"c{channel}": [values[:, channel] for values in series] for channel in range(series[0].shape[1])}
    match form:
        case "list":
            return (series, labels), {}
        case "channels first":
            return ([values.T for values in series], np.array(labels)), {"channels_first": True}
        case "padded array":
            return (padded(series), pd.Series(labels, dtype="category")), {}
        case "aeon's array":
            return (padded(series).swapaxes(1, 2), labels), {"channels_first": True}
        case "npz":
            np.savez(folder / "series.npz", X=padded(series), y=labels)
            return (folder / "series.npz",), {}
        case "long csv":
            frame.to_csv(folder / "long.csv.gz")
            return (str(folder / "long.csv.gz"),), LONG
        case "long parquet, without order":
            # Rows of one series are scattered; the first of each are in order.
            frame["time"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["time"], "s")
            frame = pd.concat([frame[frame["time"].dt.second == 0], frame[frame["time"].dt.second > 0][::-1]])
            frame.to_parquet(folder / "long.parquet")
            return (folder / "long.parquet",), LONG
        case "index of pandas, labels by id":
            by_id = frame.groupby("id")["label"].first()[::-1]
            return (frame.drop(columns="label").set_index(["id", "time"]), by_id), {}
        case "lists by channel":
            return (pd.DataFrame({**by_channel, "label": labels}),), {}
        case "sktime's nested frame":
            return (pd.DataFrame({name: list(map(pd.Series, one)) for name, one in by_channel.items()}), labels), {}
        case "arrays in a column":
            return (pd.DataFrame({"signal": series, "class": labels}),), {"value_columns": "signal"}
        case "jsonl":
            rows = pd.DataFrame({"signal": [values.tolist() for values in series], "target": labels, "n": 1})
            rows.to_json(folder / "wide.jsonl", orient="records", lines=True)
            return (folder / "wide.jsonl",), {}
        case "folder of the Hub's layout":
            data = Dataset.from_dict({"signal": series, "label": labels}).cast_column(
                "label", ClassLabel(names=list("987654321"))
            )
            (folder / "data").mkdir()
            for split in ("train", "test"):
                data.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
            return (str(folder),), {}
        case "ts":
            return (aeon_file("JapaneseVowels", "TRAIN"),), {}


FORMS = [
    "list", "channels first", "padded array", "aeon's array", "npz", "long csv", "long parquet, without order",
    "index of pandas, labels by id", "lists by channel", "sktime's nested frame", "arrays in a column", "jsonl",
    "folder of the Hub's layout", "ts",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_real_series_is_the_same_data(form, vowels, tmp_path):
    series, labels = vowels
    args, layout = in_form(form, series, labels, tmp_path)
    splits = series_dataset(*args, **layout)
    train = splits["train"]
    assert train.features["past_values"] == load_uea("JapaneseVowels")["train"].features["past_values"]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(train["past_values"], series, strict=True))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(series_arrays(train), series, strict=True))
    names = train.features["labels"]
    # Numbers are ordered as numbers; a `ClassLabel` keeps its own order.
    assert names.names == list("987654321" if "Hub" in form else "123456789")
    assert names.int2str(train["labels"]) == labels
    assert list(splits) == (["train", "test"] if "Hub" in form else ["train"])


def test_what_was_read_is_read_again_as_it_is(vowels):
    groups = np.arange(270) % 7
    once = series_dataset(*vowels, groups, validation_share=0.2)
    again = series_dataset(DatasetDict(once))
    assert again["validation"].to_dict() == once["validation"].to_dict()
    assert again["train"].features == once["train"].features


def test_columns_of_a_test_file_are_found_by_name_and_digits_of_classes_kept(tmp_path, vowels):
    frame = long_frame(*vowels).assign(label=lambda table: "0" + table["label"])
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame[frame.columns[::-1]].assign(more="text").to_csv(tmp_path / "test.csv", sep=";", index=False)
    splits = series_dataset(tmp_path / "train.csv", test=tmp_path / "test.csv", **LONG)
    assert splits["train"].to_dict() == splits["test"].to_dict()
    assert splits["train"].features["labels"].names == [f"0{digit}" for digit in range(1, 10)]


def test_digits_beside_a_large_offset_reach_the_feature_extractor(tmp_path):
    # Nanoseconds since 1970 order the rows, their last digits alone differ; values are unix times.
    stamps = 1_700_000_000_000_000_000 + np.arange(40)
    values = 1.7e9 + np.sin(np.arange(40))
    frame = pd.DataFrame(
        {"id": np.repeat([1, 2], 20), "time": stamps[::-1], "label": np.repeat([0, 1], 20), "x": values}
    )
    frame.to_csv(tmp_path / "long.csv", index=False)
    train = series_dataset(tmp_path / "long.csv", **LONG)["train"]
    np.testing.assert_array_equal(
        np.ravel(train["past_values"]), np.concatenate([values[:20][::-1], values[20:][::-1]])
    )
    extractor = PrimalDualTimeSeriesFeatureExtractor().fit(train["past_values"])
    assert len(np.unique(extractor(train["past_values"])["past_values"])) == 40


@pytest.mark.parametrize(("rows_are", "shape"), [("series", (40, 100, 1)), ("steps", (1, 40, 100))])
def test_flat_arrays_and_tables_are_read_as_they_are_told(rows_are, shape, tmp_path):
    flat = np.array(load_uea("BasicMotions")["train"]["past_values"])[:, :, 0]
    pd.DataFrame(flat).to_csv(tmp_path / "flat.csv", index=False)
    for source in (flat, flat.tolist(), tmp_path / "flat.csv", pd.DataFrame(flat)):
        with pytest.raises(ValueError, match=r"`rows_are='steps'`.*`rows_are='series'`"):
            read_series(source)
        np.testing.assert_array_equal(read_series(source, rows_are=rows_are)["past_values"], flat.reshape(shape))
    # Of unequal lengths, they can be nothing else.
    assert [len(one) for one in read_series([flat[0], flat[1, :7]])["past_values"]] == [100, 7]


def test_validation_and_test_sets_share_no_group_and_have_every_class():
    motions = load_uea("BasicMotions")["train"]
    # Subjects who did not do everything; the fifth did one thing alone.
    subjects = np.array([*np.tile(list("abcd"), 9), *"eeee"])
    splits = series_dataset(
        list(motions["past_values"]), motions["labels"], subjects, validation_share=0.25, test_share=0.25
    )
    groups = [set(split["group"]) for split in splits.values()]
    assert set.union(*groups) == set("abcde")
    assert sum(map(len, groups)) == 5
    assert all(len(set(split["labels"])) == 4 for split in splits.values())
    assert sum(map(len, splits.values())) == 40
    with pytest.raises(
        ValueError, match=r"`test_share` = 0\.5 must leave .* none of the 1 groups on both.*add groups"
    ):
        series_dataset(list(motions["past_values"]), motions["labels"], ["a"] * 40, test_share=0.5)


def test_groups_that_a_test_set_shares_with_the_training_set_are_told():
    motions = load_uea("BasicMotions")["train"]
    series, labels = list(motions["past_values"]), motions["labels"]
    groups, others = np.tile(list("abcde"), 8), np.tile(list("defgh"), 8)
    with pytest.warns(UserWarning, match=r"the test set has 2 groups that the training set has too, such as 'd'"):
        series_dataset(series, labels, groups, test=(series, labels, others))


def test_a_cut_by_class_is_that_of_the_tasks(vowels):
    splits = series_dataset(*vowels, validation_share=0.2)
    assert np.bincount(splits["validation"]["labels"]).tolist() == [6] * 9
    assert class_weights(splits["train"].select(range(100))).shape == (9,)
    weighted = series_dataset(vowels[0][:90], ["a"] * 60 + ["b"] * 30)["train"]
    np.testing.assert_allclose(class_weights(weighted), [0.75, 1.5])


def test_windows_cover_each_series_and_vote_on_it(vowels):
    series, labels = vowels
    splits = series_dataset(*vowels, validation_share=0.2, window=8, stride=3)
    assert not set(splits["train"]["recording"]) & set(splits["validation"]["recording"])
    windows = [np.array(one) for one in splits["validation"]["past_values"]]
    assert max(map(len, windows)) == 8
    for recording in set(splits["validation"]["recording"]):
        whole = series[recording]
        starts = [*range(0, max(len(whole) - 8, 1), 3), max(len(whole) - 8, 0)]
        expected = [whole[start : start + 8] for start in dict.fromkeys(starts)]
        rows = np.flatnonzero(np.array(splits["validation"]["recording"]) == recording)
        assert all(np.array_equal(windows[row], one) for row, one in zip(rows, expected, strict=True))
        assert {splits["validation"][int(row)]["labels"] for row in rows} == {int(labels[recording]) - 1}
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]])
    recordings, means = vote(["b", "b", "b", "a"], scores)
    assert recordings.tolist() == ["b", "a"]
    np.testing.assert_allclose(means, [[1.7 / 3, 1.3 / 3], [0.2, 0.8]])
    np.testing.assert_allclose(vote(["b", "b", "b", "a"], scores, "majority")[1], [[1 / 3, 2 / 3], [0, 1]])


def test_series_longer_than_the_positions_are_refused_cut_or_windowed(vowels):
    series, _ = vowels
    with pytest.raises(
        ValueError, match=r"of 270 series are longer than the 20 positions of the model, up to 26 \(rows .*or window"
    ):
        series_dataset(*vowels, max_steps=20)
    cut = series_dataset(*vowels, max_steps=20, too_long="cut")["train"]
    assert all(np.array_equal(ours, one[:20]) for ours, one in zip(cut["past_values"], series, strict=True))
    windows = cut_series(read_series(series), max_steps=20, too_long="window")
    assert windows.num_rows == sum(1 + (len(one) > 20) for one in series)
    with pytest.raises(ValueError, match="are longer than the 20 positions"):
        cut_series(read_series(series), max_steps=20)


def small(**changes) -> pd.DataFrame:
    """Four series of three steps, of two classes; `changes` name rows and what is in a column there."""
    table = pd.DataFrame(
        {"id": np.repeat(list("abcd"), 3), "time": [0, 1, 2] * 4, "label": np.repeat(["u", "v"] * 2, 3)}
    ).assign(x=np.arange(12.0), y=np.arange(12.0) % 5, who=np.repeat(list("mnop"), 3))
    for column, cells in changes.items():
        table[column] = table[column].astype(object)
        table.loc[list(cells), column] = list(cells.values())
    return table


WRONG = {
    "times": ({"time": {4: 0}}, r"1 of 12 rows repeat a time of their series, such as of 'b' \(row 4, .*keep one row"),
    "no time": ({"time": {4: "noon"}}, r"1 of 12 times are missing, or neither numbers nor dates .*\(row 4"),
    "no id": ({"id": {4: ""}}, r"1 of 12 rows have no id \(row 4"),
    "labels": ({"label": {4: "u"}}, r"1 of 4 series have more than one label \(id 'b'\), give each part of one label"),
    "groups": ({"who": {4: "m"}}, r"1 of 4 series have more than one group \(id 'b'\)"),
    "no group": ({"who": dict.fromkeys((3, 4, 5), "")}, r"1 of 4 series have no group \(id 'b'\)"),
    "no label": ({"label": dict.fromkeys((3, 4, 5), "")}, r"1 of 4 labels are missing \(id 'b'\)"),
    "text": (
        {"x": {4: "4,5"}},
        r"1 of 12 cells of 'x' are no numbers, such as '4,5' \(row 4, counted from 0\), correct",
    ),
    "infinite": ({"y": {4: -np.inf}}, r"1 of 4 series have infinite values \(id 'b'\), correct or empty"),
    "missing": ({"y": {4: np.nan}}, r"1 of 4 series have missing values, which .*'mean'.* \(id 'b'\)"),
    "channel": ({"y": dict.fromkeys(range(12), "")}, "1 of 2 channels have no value at all: y; leave them out"),
}


@pytest.mark.parametrize("form", ["frame", "csv"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place_its_number_and_the_way_out(case, form, tmp_path):
    changes, message = WRONG[case]
    source, where = small(**changes), "the train set"
    if form == "csv":
        where, _ = "long.csv", source.to_csv(tmp_path / "long.csv", index=False)
        source = tmp_path / "long.csv"
    with pytest.raises(ValueError, match=f"{re.escape(where)}: {message}"):
        series_dataset(source, group_column="who", **LONG)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    cells = {}
    for changes, _ in WRONG.values():
        for column, wrong in changes.items():
            cells.setdefault(column, {}).update(wrong)
    # Each at a row of its own.
    cells = {
        "time": {4: 0},
        "id": {0: ""},
        "label": {7: "v"},
        "who": {8: "m"},
        "x": {9: "z", 10: np.inf},
        "y": {1: np.nan},
    }
    small(**cells).to_csv(tmp_path / "train.csv", index=False)
    small(label=dict.fromkeys((0, 1, 2), "w")).to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(ValueError) as told:
        series_dataset(tmp_path / "train.csv", test=tmp_path / "test.csv", group_column="who", **LONG)
    for what in ("no id", "times", "labels", "groups", "text", "infinite", "missing"):
        gist = re.sub(r" (such as|\\\().*", "", WRONG[what][1])
        assert re.search(gist, str(told.value)), what
    assert "test.csv: 1 of 4 examples are of classes that train lacks: 'w' (1) (id 'a')" in str(told.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, y: series_dataset(X, y[:3]), "the train set: 3 labels for 6 series"),
        (lambda X, y: series_dataset(X, [1, *y[1:]]), r"1 of 6 labels are int where the others are str \(row 0"),
        (lambda X, y: series_dataset([*X[:5], [["x"]]], y), r"1 of 6 series are no arrays of numbers .*'x' \(row 5"),
        (lambda X, y: series_dataset([*X[:5], X[5, :0]], y), r"1 of 6 series have no step \(row 5"),
        (lambda X, y: series_dataset(X * 1j, y), "complex numbers have two parts"),
        (lambda X, y: series_dataset([X[0].T, X[1, :4].T], y[:2]), r"are not of 5 channels.*`channels_first=True` if"),
        (lambda X, y: series_dataset(X, y, test=(X.swapaxes(1, 2), y)), "not of 2 channels.*`channels_first=True` if"),
        (lambda X, y: series_dataset(X, y, test=(X, list("abcabc"))), r"train lacks: 'c' \(2\) \(rows 2, 5"),
        (
            lambda X, y: series_dataset(X, list("aaaabc"), validation_share=0.4),
            r"2 of 3 classes .*: 'b' \(1\), 'c' \(1",
        ),
        (lambda X, y: series_dataset(X, y, stride=2), "`stride` must be at most the window"),
        (lambda X, y: series_dataset(X), "the train set has no labels: name their column by `label_column`"),
        (
            lambda X, y: series_dataset({"foo": X, "y": y}),
            "no array 'X'; it has foo, y: name that of series",
        ),
        (
            lambda X, y: series_dataset({"X": X, "y": y}, id_column="id"),
            "the train set is no table: `id_column` must be left out",
        ),
        (lambda X, y: series_dataset(X, y, channel_first=True), "did you mean `channels_first`"),
    ],
)
def test_arrays_that_cannot_be_trained_on(call, message):
    X = np.random.default_rng(0).normal(size=(6, 5, 2))
    with pytest.raises((ValueError, TypeError), match=message):
        call(X, list("ababab"))


def test_y_beside_x_is_a_coordinate():
    rng, labels = np.random.default_rng(0), list("ab" * 3)
    table = pd.DataFrame(rng.normal(size=(30, 3)), columns=list("xyz")).assign(id=np.repeat(range(6), 5))
    with_classes = table.assign(label=np.repeat(labels, 5))
    splits = [
        series_dataset(with_classes, id_column="id")["train"],
        series_dataset(table, labels, id_column="id")["train"],
        read_series(table, id_column="id"),
    ]
    assert [np.shape(split["past_values"]) for split in splits] == [(6, 5, 3)] * 3
    # Alone, or beside lists, it is the class.
    lists = pd.DataFrame({"x": table["x"].to_numpy().reshape(6, 5).tolist(), "y": labels})
    assert series_dataset(lists)["train"].features["labels"].names == ["a", "b"]
    only = with_classes[["id", "z", "label"]].rename(columns={"label": "y"})
    assert series_dataset(only, id_column="id")["train"].features["labels"].names == ["a", "b"]


@pytest.mark.parametrize("label", ["größe", "class"])
def test_a_file_of_another_encoding_is_told(label, tmp_path):
    (tmp_path / "series.csv").write_bytes(f"id,x,{label}\n1,2,größe\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"series\.csv cannot be read: .*; save it as UTF-8"):
        series_dataset(tmp_path / "series.csv", id_column="id", label_column=label)


def test_lines_of_a_csv_file_that_have_other_cells_are_all_told(tmp_path):
    (tmp_path / "ragged.csv").write_text("id,x,label\n1,2,a\n1,2\n2,3,b\n2,3,b,4\n")
    with pytest.raises(
        ValueError, match=r"2 lines have not the 3 cells of the header: line 3 has 2 cells, line 5 has 4"
    ):
        series_dataset(tmp_path / "ragged.csv", id_column="id")


@pytest.mark.filterwarnings("error")
def test_a_channel_that_never_changes_is_worth_a_warning_and_swapped_axes_too():
    X = np.random.default_rng(0).normal(size=(6, 5, 2))
    X[..., 1] = 3
    with pytest.warns(UserWarning, match="the train set: 1 of 2 channels never change: 1; leave them out"):
        series_dataset(X, list("ababab"))
    with pytest.warns(UserWarning, match="more channels than steps, the first 5 and 2; .* set `channels_first`"):
        read_series(X.swapaxes(1, 2))
