"""Images of folders and parquet files, whole and streaming: scikit-learn's digits in those layouts."""

import io
import shutil
from collections import Counter

import numpy as np
import pytest
from datasets import ClassLabel, concatenate_datasets, load_dataset
from PIL import Image as Pillow
from sklearn.datasets import load_digits

from hf_primaldual.data import decode_image, load_images

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
def folder(layout, tmp_path):
    """A copy of it, with some of its splits."""

    def write(*splits: str):
        for split in splits:
            shutil.copytree(layout / split, tmp_path / "images" / split)
        return tmp_path / "images"

    return write


@pytest.fixture
def parquet(layout, tmp_path):
    """The same as parquet files that hold the images."""

    def write(change=lambda split: split):
        (tmp_path / "parquet").mkdir()
        for name, split in load_dataset("imagefolder", data_dir=str(layout)).items():
            change(split).to_parquet(tmp_path / "parquet" / f"{name}-00000-of-00001.parquet")
        return tmp_path / "parquet"

    return write


def rows(split) -> list[tuple[bytes, int]]:
    return sorted((np.asarray(row["image"]).tobytes(), row["labels"]) for row in split)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_with_its_splits(layout, streaming):
    data = load_images(layout, streaming=streaming)
    assert list(data) == ["train", "validation", "test"]
    for name, count in zip(data, SPLITS.values(), strict=True):
        assert list(data[name].features) == ["image", "labels"]
        assert data[name].features["labels"].names == sorted(CLASSES)
        assert Counter(row["labels"] for row in data[name]) == dict.fromkeys(range(3), count)
    image = Pillow.open(layout / "test" / "two" / "test-0.png")
    label = sorted(CLASSES).index("two")
    assert (np.asarray(image).tobytes(), label) in rows(data["test"])


def test_a_validation_set_is_cut_from_train_by_class(folder):
    data = load_images(folder("train", "test"), validation_share=0.2)
    assert Counter(data["train"]["labels"]) == dict.fromkeys(range(3), 16)
    assert Counter(data["validation"]["labels"]) == dict.fromkeys(range(3), 4)
    assert rows(load_images(folder(), validation_share=0.2)["validation"]) == rows(data["validation"])
    assert rows(load_images(folder(), validation_share=0.2, seed=1)["validation"]) != rows(data["validation"])
    with pytest.raises(ValueError, match=r"`validation_share` = 0\.99 must leave at least one of the 60 examples"):
        load_images(folder(), validation_share=0.99)
    with pytest.raises(ValueError, match="`validation_share` of a stream must be at least"):
        load_images(folder(), validation_share=0.0, streaming=True)


@pytest.mark.parametrize("layout_of", ["folder", "parquet"])
def test_a_stream_is_cut_by_a_hash(folder, parquet, layout_of):
    if layout_of == "folder":
        root = folder("train", "val")
    else:
        root = parquet()
        (root / "test-00000-of-00001.parquet").unlink()
    data = load_images(root, streaming=True, test_split="validation", validation_share=0.3)
    train, validation = rows(data["train"]), rows(data["validation"])
    assert len(train) + len(validation) == 60
    assert 8 < len(validation) < 30
    whole = load_images(root, test_split="validation", validation_share=0.1)
    assert {name: len(split) for name, split in whole.items()} == {"train": 54, "validation": 6, "test": 12}
    assert sorted(train + validation) == rows(concatenate_datasets([whole["train"], whole["validation"]]))
    # In whatever order, the same images.
    assert rows(data["validation"].shuffle(seed=1, buffer_size=10)) == validation
    assert rows(data["test"]) == rows(whole["test"])
    other = load_images(root, streaming=True, test_split="validation", validation_share=0.3, seed=1)
    assert rows(other["validation"]) != validation


def test_parquet_files(parquet, layout):
    root, expected = parquet(), load_images(layout)
    # The split is told by the file's name, or by its folder's.
    (root / "val").mkdir()
    (root / "validation-00000-of-00001.parquet").rename(root / "val" / "0.parquet")
    data, streamed = load_images(root), load_images(root, streaming=True)
    for name in expected:
        assert rows(data[name]) == rows(streamed[name]) == rows(expected[name])
        assert data[name].features == expected[name].features


def test_columns_of_other_names_and_classes_as_words(parquet):
    def change(split):
        words = [CLASSES[label] for label in split["label"]]
        split = split.remove_columns("label").add_column("kind", words).add_column("id", list(range(len(split))))
        return split.rename_column("image", "picture")

    root = parquet(change)
    with pytest.raises(ValueError, match="has the columns picture, kind, id; name the one to take by `label_column`"):
        load_images(root)
    data = load_images(root, label_column="kind")
    assert data["train"].features["labels"] == ClassLabel(names=sorted(CLASSES))
    assert Counter(data["train"]["labels"]) == dict.fromkeys(range(3), 20)
    with pytest.raises(ValueError, match="a stream cannot be looked through for the names of the classes"):
        load_images(root, label_column="kind", streaming=True)


def test_missing_labels_are_named(parquet):
    def hide(split):
        features = split.features
        hidden = [-1 if len(split) == 9 else label for label in split["label"]]
        return split.remove_columns("label").add_column("label", hidden).cast(features)

    root = parquet(hide)
    with pytest.raises(ValueError, match=r"the test set of .*: 9 of 9 labels are missing .*test_split='validation'"):
        load_images(root)
    assert len(load_images(root, test_split="validation")["test"]) == 12


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="has the splits train, validation, but no test; test on its validation"):
        load_images(folder("train", "val"))
    with pytest.raises(ValueError, match="`test_split` must be test or validation, got 'dev'"):
        load_images(folder(), test_split="dev")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError):
        load_images(empty)
    (empty / "data.parquet").touch()
    with pytest.raises(ValueError, match=r"data\.parquet: expected a folder, or parquet files whose name"):
        load_images(empty)


def test_pixels_come_in_the_asked_mode():
    grey = Pillow.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    file = io.BytesIO()
    grey.save(file, "PNG")
    cell = {"bytes": file.getvalue(), "path": None}
    assert np.asarray(decode_image(cell)).shape == (4, 4, 3)
    assert np.asarray(decode_image(cell, "L")).tolist() == np.asarray(grey).tolist()
    assert decode_image(grey).mode == "RGB"
