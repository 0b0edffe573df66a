"""Data sets of the Hub, as folders of the same layout: their splits, configurations and names."""

import pandas as pd
import pytest

from hf_primaldual.data import load_uea, series_dataset
from hf_primaldual.data.sources import check_test_set, data_name, described, load_splits

ROWS = pd.DataFrame({"text": ["a", "b", "c", "d"], "label": ["x", "y"] * 2})


def write(folder, *names: str):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        ROWS.to_csv(folder / name, index=False)
    return folder


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
def test_splits_have_three_names(tmp_path, validation, monkeypatch):
    # In a folder that is called as a reader of `datasets` is.
    folder = write(tmp_path / "csv", "train.csv", f"{validation}.csv", "test.csv")
    monkeypatch.chdir(tmp_path)
    assert list(load_splits("csv")) == ["train", "validation", "test"]
    assert list(load_splits(folder, test_split="validation")) == ["train", "test"]
    (folder / "test.csv").unlink()
    loaded = load_splits(folder)
    with pytest.raises(
        ValueError, match=r"has the splits train, validation, but no test; cut .* `test_share`, or test on"
    ):
        check_test_set(loaded, None, "csv")
    check_test_set(loaded, 0.2, "csv")
    with pytest.raises(ValueError, match="`test_share` cuts a test set out of the training set, and csv has one"):
        check_test_set({"train": 0, "test": 0}, 0.2, "csv")


def test_a_configuration_and_what_cannot_be_loaded(tmp_path):
    folder = write(tmp_path / "tickets", "en/train.csv", "en/test.csv", "de/train.csv")
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: {name}/{s}.csv\n" for s in splits)
        for name, splits in (("en", ("train", "test")), ("de", ("train",)))
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert list(load_splits(folder, "en")) == ["train", "test"]
    with pytest.raises(
        ValueError, match=r"tickets cannot be read: Config name is missing.*'en', 'de'.*`dataset_config`"
    ):
        load_splits(folder)
    assert described(folder, "en") == {"name": "tickets", "source": "a local folder tickets, en"}
    source = "owner/tickets, revision v2"
    assert described("owner/tickets", None, "v2") == {"name": "tickets", "source": source, "hub_id": "owner/tickets"}
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="none doesn't contain any data files"):
        load_splits(tmp_path / "none")
    with pytest.raises(ValueError, match="only_test has no split train, only test"):
        load_splits(write(tmp_path / "only_test", "test.csv"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("reviews/train.csv", "reviews"),
        ("my films/data/train-00000-of-00001.parquet", "my-films"),
        ("reviews_train.csv.gz", "reviews"),
        ("Training.jsonl", "tmp"),
        ("brains v2.csv", "brains-v2"),
    ],
)
def test_data_are_never_called_train(tmp_path, path, name):
    file = tmp_path / "tmp" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert data_name(file) == name
    assert data_name("owner/reviews") == "reviews"


def test_series_of_a_folder(tmp_path):
    for split in ("train", "dev"):
        load_uea("BasicMotions")["train"].select(range(0, 40, 4)).to_parquet(tmp_path / f"{split}.parquet")
    splits = series_dataset(tmp_path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 10, "validation": 10}
    assert splits["train"].features["labels"].names == ["Standing", "Running", "Walking", "Badminton"]
