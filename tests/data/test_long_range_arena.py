"""Readers of Long Range Arena's published files, on small files in their formats."""

import os

import numpy as np
import pytest
from PIL import Image

from hf_primaldual.data import load_cifar10, load_imdb, load_pathfinder_images, load_retrieval
from hf_primaldual.training.text_sources import TextDataArguments, load_source

CLASSES = ["airplane", "automobile", "bird"]


def assert_is_source(task: str, folder, splits, *expected) -> None:
    """A `--task` takes these splits from the folder, and has these columns, this name and length."""
    found = load_source(TextDataArguments(task=task, data_folder=str(folder)))
    assert found.splits["train"].to_dict() == splits["train"].to_dict()
    assert (found.columns, found.described["name"], found.max_tokens) == expected


def test_reviews(tmp_path):
    for split in ("train", "test"):
        for name in ("neg", "pos", "unsup"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                file = tmp_path / split / name / f"{number}_7.txt"
                file.write_text(f"{split} {name} {number} é", encoding="utf-8")
    splits = load_imdb(tmp_path)
    texts = ["train neg 0 é", "train neg 1 é", "train pos 0 é", "train pos 1 é"]
    assert splits["train"].features["labels"].names == ["neg", "pos"]
    assert splits["train"].to_dict() == {"text": texts, "labels": [0, 0, 1, 1]}
    assert splits["test"]["text"][0] == "test neg 0 é"
    assert_is_source("text", tmp_path, splits, ("text",), "imdb", 4000)
    # As long as before: only its time tells that a review has changed.
    path = tmp_path / "train/neg/0_7.txt"
    path.write_text("TRAIN neg 0 é", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert load_imdb(tmp_path)["train"]["text"][0] == "TRAIN neg 0 é"
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"0_7\.txt: the review is not UTF-8"):
        load_imdb(tmp_path)
    (tmp_path / "test/pos").rename(tmp_path / "test/none")
    with pytest.raises(FileNotFoundError, match=r"test/pos holds no \*\.txt"):
        load_imdb(tmp_path)


def write_pairs(folder, line: str = "1.0\tA\tB\tplain \r \u2028 text\tb'it\\'s\\tb'\n"):
    for name in ("train", "eval", "test"):
        content = "0.0\tA\tC\tb'caf\\xc3\\xa9\\n'\tb\"it's\"\n"
        (folder / f"new_aan_pairs.{name}.tsv").write_text(content + line, encoding="utf-8", newline="")
    return folder


def test_pairs_of_papers(tmp_path):
    splits = load_retrieval(write_pairs(tmp_path))
    assert list(splits) == ["train", "validation", "test"]
    assert splits["validation"].features["labels"].names == ["unrelated", "cited"]
    texts = {"text1": ["café\n", "plain \r \u2028 text"], "text2": ["it's", "it's\tb"]}
    assert splits["validation"].to_dict() == {**texts, "labels": [0, 1]}
    assert_is_source("retrieval", tmp_path, splits, ("text1", "text2"), "aan", 4000)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tA\tB\ttext\n", "train.tsv:2: 4 columns, expected a label, two ids and two texts"),
        ("2\tA\tB\ttext\ttext\n", "train.tsv:2: the label is '2', expected 0 or 1"),
        ("1\tA\tB\tb'text\ttext\n", "train.tsv:2: a text begins like Python's bytes and is none: b'text"),
    ],
)
def test_a_broken_pair_is_named_with_its_line(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        load_retrieval(write_pairs(tmp_path, line))


def test_cifar_in_grey(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 32, 32, 3), dtype=np.uint8)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for name, batch in zip(names, images, strict=True):
        planes = batch.transpose(0, 3, 1, 2).reshape(2, -1)
        (tmp_path / name).write_bytes(np.concatenate(([[1], [2]], planes), 1).astype(np.uint8).tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    splits = load_cifar10(tmp_path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 10, "test": 2}
    assert splits["train"].features["labels"].names == CLASSES
    assert splits["train"]["labels"][:2] == [1, 2]
    assert_is_source("image", tmp_path, splits, ("input_ids",), "cifar10-grey", 1024)
    # The weights of television's grey, which TensorFlow and Pillow share.
    expected = images[-1] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(np.array(splits["test"]["input_ids"][:]), expected.reshape(2, 1024), atol=1)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"test_batch.bin: 6145 bytes are no whole number of images"):
        load_cifar10(tmp_path)


def test_published_pathfinder_images(tmp_path):
    (tmp_path / "curv_baseline/metadata").mkdir(parents=True)
    root = tmp_path / "curv_baseline"
    for batch in (0, 10, 2):
        (root / f"imgs/{batch}").mkdir(parents=True)
        lines = []
        for number in range(10):
            values = np.full((32, 32), 10 * batch + number, np.uint8)
            Image.fromarray(values).save(root / f"imgs/{batch}/sample_{number}.png")
            lines.append(f"imgs/{batch} sample_{number}.png {number} {number % 2} 1.0 6 2 2 0.5 1 1\n")
        if batch == 0:
            # The archive's one empty image is left out.
            (root / "imgs/0/sample_172.png").touch()
            lines.append("imgs/0 sample_172.png 172 1 1.0 6 2 2 0.5 1 1\n")
        (root / f"metadata/{batch}.npy").write_text("".join(lines))
    splits = load_pathfinder_images(root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 24, "validation": 3, "test": 3}
    rows = [row for split in splits.values() for row in split]
    assert sorted(row["input_ids"][0] for row in rows) == sorted([*range(10), *range(20, 30), *range(100, 110)])
    assert all(row["labels"] == row["input_ids"][0] % 2 for row in rows)
    assert_is_source("pathfinder", root, splits, ("input_ids",), "pathfinder32", 1024)
    assert load_pathfinder_images(root, seed=1)["test"].to_dict() != splits["test"].to_dict()
    for line, error, message in (
        ("imgs/2 sample_0.png 0 7\n", ValueError, r"metadata/2\.npy:1: expected a folder, .* and a label 0 or 1"),
        ("imgs/2 sample_99.png 0 1\n", FileNotFoundError, r"holds no imgs/2/sample_99\.png"),
    ):
        (root / "metadata/2.npy").write_text(line)
        with pytest.raises(error, match=message):
            load_pathfinder_images(root)
