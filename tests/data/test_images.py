"""Images of folders and parquet files, whole and streaming: scikit-learn's digits in those layouts."""

import shutil
from collections import Counter

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, load_dataset
from PIL import Image as Pillow
from sklearn.datasets import load_digits

from hf_primaldual.data import load_images

CLASSES = ("zero", "one", "two")
SPLITS = {"train": 20, "val": 4, "test": 3}


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """ImageNet's layout: a folder a split, in it a folder a class."""
    root = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for label, name in enumerate(CLASSES):
        images = iter(digits.images[digits.target == label])
        for split, count in SPLITS.items():
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = (next(images) * 255 / 16).astype(np.uint8)
                Pillow.fromarray(pixels).save(root / split / name / f"{split}-{index}.png")
    return root


@pytest.fixture
def parquet(layout, tmp_path):
    """The same as parquet files that hold the images."""

    def write(change=lambda split: split):
        for name, split in load_dataset("imagefolder", data_dir=str(layout)).items():
            change(split).to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
        return tmp_path

    return write


def rows(*splits) -> list[tuple[bytes, int]]:
    return sorted((np.asarray(row["image"]).tobytes(), row["labels"]) for split in splits for row in split)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_or_parquet_files_with_their_splits(layout, parquet, streaming):
    data, packed = load_images(layout, streaming=streaming), load_images(parquet(), streaming=streaming)
    assert list(data) == ["train", "validation", "test"]
    for name, count in zip(data, SPLITS.values(), strict=True):
        assert list(data[name].features) == ["image", "labels"]
        assert data[name].features["labels"].names == sorted(CLASSES)
        assert Counter(row["labels"] for row in data[name]) == dict.fromkeys(range(3), count)
        assert rows(data[name]) == rows(packed[name])
    image = Pillow.open(layout / "test" / "two" / "test-0.png")
    assert (np.asarray(image).tobytes(), sorted(CLASSES).index("two")) in rows(data["test"])


def test_a_validation_set_is_cut_from_train_by_class(layout, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(layout / split, tmp_path / split)
    data = load_images(tmp_path, validation_share=0.2)
    assert Counter(data["train"]["labels"]) == dict.fromkeys(range(3), 16)
    assert Counter(data["validation"]["labels"]) == dict.fromkeys(range(3), 4)
    assert rows(load_images(tmp_path, validation_share=0.2, seed=1)["validation"]) != rows(data["validation"])
    with pytest.raises(ValueError, match="`validation_share` of a stream must be at least"):
        load_images(tmp_path, validation_share=0.0, streaming=True)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "parquet"])
def test_a_stream_is_cut_by_a_hash(layout, parquet, packed, monkeypatch):
    # For the end of a program, which this is not.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    root = parquet() if packed else layout
    data, other = (
        load_images(root, streaming=True, test_split="validation", validation_share=0.3, seed=seed) for seed in (0, 1)
    )
    validation = rows(data["validation"])
    assert 8 < len(validation) < 30
    assert rows(data["train"], data["validation"]) == rows(load_images(root)["train"])
    assert rows(data["test"]) == rows(load_images(root)["validation"])
    # In whatever order, the same images.
    assert rows(data["validation"].shuffle(seed=1, buffer_size=10)) == validation != rows(other["validation"])


def test_columns_of_other_names_and_classes_as_words(parquet):
    def change(split):
        words = [CLASSES[label] for label in split["label"]]
        split = split.remove_columns("label").add_column("kind", words).add_column("id", list(range(len(split))))
        return split.rename_column("image", "picture")

    root = parquet(change)
    data = load_images(root, label_column="kind")
    assert data["train"].features["labels"] == ClassLabel(names=sorted(CLASSES))
    assert Counter(data["train"]["labels"]) == dict.fromkeys(range(3), 20)
    for settings, message in (
        ({}, "has the columns picture, kind, id; name the one to take by `label_column`"),
        (
            {"label_column": "kind", "streaming": True},
            "a stream cannot be looked through for the names of the classes",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            load_images(root, **settings)


def test_missing_labels_and_what_is_not_there_are_named(parquet):
    def hide(split):
        hidden = [-1 if len(split) == 9 else label for label in split["label"]]
        return split.remove_columns("label").add_column("label", hidden).cast(split.features)

    root = parquet(hide)
    with pytest.raises(ValueError, match=r"the test set of .*: 9 of 9 labels are missing .*test_split='validation'"):
        load_images(root)
    (root / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(
        ValueError,
        match=r"has the splits train, validation, but no test; cut .*, or test on its validation",
    ):
        load_images(root)
    with pytest.raises(ValueError, match="`test_split` must be test or validation, got 'dev'"):
        load_images(root, test_split="dev")


def test_a_stream_leaves_out_what_cannot_be_read_and_is_cut_twice(layout, tmp_path):
    shutil.copytree(layout / "train", tmp_path / "train")
    (tmp_path / "train" / "one" / "train-5.png").write_bytes(b"no image")
    shares = {"test_share": 0.3, "validation_share": 0.3}
    data = load_images(tmp_path, streaming=True, skip_unreadable=True, **shares)
    with pytest.warns(UserWarning, match=r"left out: .*1 of 60 images cannot be read .*train-5\.png"):
        whole = load_images(tmp_path, skip_unreadable=True, **shares)
    assert {name: len(split) for name, split in whole.items()} == {"train": 23, "validation": 18, "test": 18}
    assert rows(*data.values()) == rows(*whole.values())
    assert all(6 < len(rows(split)) < 40 for split in data.values())
