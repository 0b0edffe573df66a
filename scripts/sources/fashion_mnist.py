"""Fashion-MNIST, 28 x 28 grey images of ten kinds of clothes, from its published `.gz` files, as `datasets`.

Debian's package `dataset-fashion-mnist` holds them; `make data` unpacks it into `.data`. They are in the idx format:
two zero bytes, a type (8 is uint8), the number of dimensions, each as a big-endian uint32, then the values.
"""

import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict, Image
from PIL import Image as Pillow

from hf_primaldual.data.files import check_sha256, published, read_files, sha256_of
from hf_primaldual.training.images import ImageDataArguments

# fmt: off
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)
# fmt: on

# Of the published files, which Debian's dataset-fashion-mnist 0.0~git20200523.55506a9-1 holds unchanged.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}

DATA_FOLDER_VARIABLE = "HF_PRIMALDUAL_DATA"

_FOLDER = "usr/share/datasets/fashion-mnist"
_PREFIXES = {"train": "train", "test": "t10k"}


def fashion_mnist_source(args: ImageDataArguments) -> tuple[DatasetDict, dict]:
    """The source of `--dataset fashion-mnist`."""
    return load_fashion_mnist(args.data_folder), describe_fashion_mnist(args.data_folder)


def load_fashion_mnist(folder: str | PathLike | None = None) -> DatasetDict:
    """
    Splits `train` (60,000) and `test` (10,000) with the columns `image`, grey PIL images kept as PNG, and `labels`.

    The four `.gz` files are in the folder, by default in `usr/share/datasets/fashion-mnist` of Debian's package below
    the folder that the environment variable `HF_PRIMALDUAL_DATA` names, or else below `.data` or `/`.
    """
    paths = _find(folder)
    features = {"image": Image(), "labels": ClassLabel(names=list(FASHION_MNIST_CLASSES))}
    parts = ("images-idx3", "labels-idx1")
    files = {
        split: [tuple(paths[f"{prefix}-{part}-ubyte.gz"] for part in parts)] for split, prefix in _PREFIXES.items()
    }
    return read_files(_examples, features, files)


def describe_fashion_mnist(folder: str | PathLike | None = None) -> dict[str, Any]:
    """Where `load_fashion_mnist` takes its images from: `name`, `source`, `sha256` of each file, `licence`."""
    digests = {name: sha256_of(path) for name, path in _find(folder).items()}
    is_published = digests == FASHION_MNIST_SHA256
    return {
        "name": "fashion-mnist",
        "source": "Fashion-MNIST, the published files" if is_published else "Fashion-MNIST, a local folder",
        "sha256": digests,
        "licence": "MIT" if is_published else None,
    }


def read_idx(path: str | PathLike) -> np.ndarray:
    """Read a gzipped idx file of uint8 values into an array of the shape that it declares."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: no whole gzip file ({error}); copy it again") from error
    start = 4 + 4 * content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    if not start or len(content) < start:
        raise ValueError(f"{path}: it starts with {content[:4].hex()!r}, expected '0000', '08' for uint8, dimensions")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path}: it holds {len(content) - start} values, but declares {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(folder: str | PathLike | None) -> dict[str, Path]:
    if folder is not None:
        return {name: published(folder, name) for name in FASHION_MNIST_SHA256}
    named = os.environ.get(DATA_FOLDER_VARIABLE)
    roots = [Path(named)] if named else [Path(".data"), Path("/")]
    folder = next((root / _FOLDER for root in roots if (root / _FOLDER).is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"no {_FOLDER} below {' or '.join(map(str, roots))}; it comes with Debian's package "
            "dataset-fashion-mnist: `make data`, then run in the folder that holds .data or set "
            f"{DATA_FOLDER_VARIABLE} to it"
        )
    paths = _find(folder)
    advice = "unpack Debian's package dataset-fashion-mnist again, or pass the folder to use these files all the same"
    check_sha256(paths.values(), FASHION_MNIST_SHA256, advice)
    return paths


def _examples(images: Path, labels: Path) -> Iterator[dict]:
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or classes.shape != pixels.shape[:1]:
        raise ValueError(f"{labels}: {classes.shape} labels do not fit the {pixels.shape} pixels of {images}")
    if classes.size and classes.max() >= len(FASHION_MNIST_CLASSES):
        raise ValueError(f"{labels}: label {classes.max()} is outside the {len(FASHION_MNIST_CLASSES)} classes")
    for image, label in zip(pixels, classes, strict=True):
        file = io.BytesIO()
        # Little compression: the cache grows by a twentieth, and is written in less time.
        Pillow.fromarray(image).save(file, "PNG", compress_level=1)
        yield {"image": {"bytes": file.getvalue(), "path": None}, "labels": int(label)}
