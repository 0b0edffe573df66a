"""Readers for the published files of Long Range Arena (Tay et al., 2021): Text, Retrieval, Image and Pathfinder.

Nothing is downloaded, and no pickle is opened. What was read once lies in the cache of `datasets`, keyed by the files'
names, sizes and times. A file that is missing is a `FileNotFoundError`, one that breaks the format a `ValueError` that
starts with its path, and with the line where there are lines. ListOps has a file of its own.
"""

import ast
import random
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict, List, Value

from .files import published, read_files

_IMDB_CLASSES = ("neg", "pos")
_RETRIEVAL = {
    "train": "new_aan_pairs.train.tsv",
    "validation": "new_aan_pairs.eval.tsv",
    "test": "new_aan_pairs.test.tsv",
}
_CIFAR = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
_CIFAR_RECORD = 1 + 3 * 32 * 32
# Of what lies in the published archive, one image is an empty file; the published loaders leave it out too.
_EMPTY_IMAGE = ("curv_baseline", "imgs/0", "sample_172.png")


def load_imdb(folder: str | PathLike) -> DatasetDict:
    """
    The reviews of LRA's Text from the published archive `aclImdb`, `train/pos/*.txt` and so on: splits `train` and
    `test` with the columns `text` and `labels`. Long Range Arena itself has no validation set either.
    """
    files = {
        split: [(path, name) for name in _IMDB_CLASSES for path in _listed(Path(folder) / split / name, "*.txt")]
        for split in ("train", "test")
    }
    return read_files(_review, {"text": Value("string"), "labels": ClassLabel(names=list(_IMDB_CLASSES))}, files)


def load_retrieval(folder: str | PathLike) -> DatasetDict:
    """
    LRA's Retrieval, pairs of papers of the ACL Anthology Network, from `new_aan_pairs.{train,eval,test}.tsv`: splits
    `train`, `validation` and `test` with the columns `text1`, `text2` and `labels`.

    A line is label, two ids, and two texts, separated by tabs and without quoting; the published texts are written as
    Python's bytes, b'...', which are read as what they stand for.
    """
    files = {split: [(published(folder, name),)] for split, name in _RETRIEVAL.items()}
    labels = ClassLabel(names=["unrelated", "cited"])
    return read_files(_pairs, {"text1": Value("string"), "text2": Value("string"), "labels": labels}, files)


def load_cifar10(folder: str | PathLike) -> DatasetDict:
    """
    LRA's Image, CIFAR-10 in grey, from the published binary version, `data_batch_1.bin` and so on: splits `train` and
    `test` with the columns `input_ids`, the 1024 grey values row by row, and `labels`.
    """
    names = published(folder, "batches.meta.txt").read_text(encoding="utf-8").split()
    files = {split: [(published(folder, name),) for name in batches] for split, batches in _CIFAR.items()}
    return read_files(_cifar_images, _grey_images(names, 32 * 32), files)


def load_pathfinder_images(folder: str | PathLike, seed: int = 0) -> DatasetDict:
    """
    LRA's Pathfinder from its published images, such as `pathfinder32/curv_contour_length_14`, as `load_pathfinder`
    returns it: 80 % for training, and 10 % each for validation and test.

    The files `metadata/*.npy` are text: on a line a folder, a file, a number, the label, and the generator's settings.
    """
    from PIL import Image

    metadata = sorted(_listed(Path(folder) / "metadata", "*.npy"), key=lambda path: (len(path.stem), path.stem))
    images = [image for path in metadata for image in _metadata(path)]
    random.Random(f"{seed}").shuffle(images)
    held_out = len(images) // 10
    if not held_out:
        raise ValueError(f"{folder}: {len(images)} images, expected at least 10, to be split")
    parts = {"train": images[2 * held_out :], "validation": images[:held_out], "test": images[held_out : 2 * held_out]}
    with Image.open(images[0][0]) as image:
        features = _grey_images(["different", "same"], image.height * image.width)
    return read_files(_pathfinder_image, features, parts)


def _grey_images(names: list[str], pixels: int) -> dict[str, Any]:
    return {"input_ids": List(Value("uint8"), length=pixels), "labels": ClassLabel(names=names)}


def _listed(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.resolve().glob(pattern))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no {pattern}; expected the published files")
    return paths


def _review(path: Path, label: str) -> Iterator[dict]:
    try:
        yield {"text": path.read_text(encoding="utf-8"), "labels": label}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the review is not UTF-8 text, as the published ones are") from error


def _pairs(path: Path) -> Iterator[dict]:
    # Only \n ends a line: texts may hold other characters that Python takes for an end.
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != 5:
                raise ValueError(f"{where}: {len(fields)} columns, expected a label, two ids and two texts")
            label, _, _, *texts = fields
            if label not in ("0", "1", "0.0", "1.0"):
                raise ValueError(f"{where}: the label is {label!r}, expected 0 or 1")
            first, second = (_unquoted(text, where) for text in texts)
            yield {"text1": first, "text2": second, "labels": int(float(label))}


def _unquoted(text: str, where: str) -> str:
    """What a text stands for that is written as Python's bytes; others are taken as they are."""
    if text[:2] not in ("b'", 'b"'):
        return text
    try:
        return ast.literal_eval(text).decode(errors="replace")
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{where}: a text begins like Python's bytes and is none: {text[:40]}...") from error


def _cifar_images(path: Path) -> Iterator[dict]:
    from PIL import Image

    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % _CIFAR_RECORD:
        raise ValueError(f"{path}: {len(content)} bytes are no whole number of images of {_CIFAR_RECORD} bytes")
    for record in content.reshape(-1, _CIFAR_RECORD):
        # Stored plane by plane, red first.
        image = Image.fromarray(np.ascontiguousarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)))
        yield {"input_ids": np.asarray(image.convert("L")).ravel(), "labels": int(record[0])}


def _metadata(path: Path) -> Iterator[tuple[Path, int]]:
    """Path and label of the images that a file of metadata names."""
    root = path.parent.parent
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if len(fields) < 4 or fields[3] not in ("0", "1"):
            raise ValueError(f"{path}:{number}: expected a folder, a file, a number and a label 0 or 1, got {line!r}")
        if (root.name, *fields[:2]) == _EMPTY_IMAGE:
            continue
        yield published(root, f"{fields[0]}/{fields[1]}"), int(fields[3])


def _pathfinder_image(path: Path, label: int) -> Iterator[dict]:
    from PIL import Image

    with Image.open(path) as image:
        yield {"input_ids": np.asarray(image.convert("L")).ravel(), "labels": label}
