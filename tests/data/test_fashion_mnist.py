"""The loader of Fashion-MNIST: on the published files where they are, and on small files in their format."""

import gzip
import re
import shutil
import struct

import numpy as np
import pytest
from datasets import ClassLabel, Features, Image

from hf_primaldual.data import describe_fashion_mnist, fashion_mnist, load_fashion_mnist, read_idx
from hf_primaldual.data.debian import DATA_FOLDER_VARIABLE, debian_folder
from hf_primaldual.data.fashion_mnist import FASHION_MNIST_CLASSES, FASHION_MNIST_SHA256


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Writes three images a split, in the published format."""
    generator = np.random.default_rng(0)

    def write(**changed: bytes):
        for prefix in ("train", "t10k"):
            images = idx(generator.integers(256, size=(3, 28, 28), dtype=np.uint8))
            (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
            (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.uint8([9, 0, 3]))))
        for name, content in changed.items():
            (tmp_path / f"train-{name}-ubyte.gz").write_bytes(content)
        return tmp_path

    return write


@pytest.fixture(scope="module")
def published():
    try:
        return debian_folder("usr/share/datasets/fashion-mnist", "dataset-fashion-mnist")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_the_published_images_pixel_by_pixel(published):
    data = load_fashion_mnist()
    assert {name: len(split) for name, split in data.items()} == {"train": 60000, "test": 10000}
    assert data["train"].features == Features(
        {"image": Image(), "labels": ClassLabel(names=list(FASHION_MNIST_CLASSES))}
    )
    assert np.bincount(data["train"]["labels"]).tolist() == [6000] * 10
    assert data["train"].cache_files  # memory-mapped
    pixels = read_idx(published / "t10k-images-idx3-ubyte.gz")
    for index in (0, 4999, 9999):
        np.testing.assert_array_equal(np.asarray(data["test"][index]["image"]), pixels[index])
    # As the publishers show them: the first of each file is an ankle boot.
    assert data["train"].features["labels"].int2str(data["train"][0]["labels"]) == "Ankle boot"


def test_the_published_files_are_described(published):
    source = describe_fashion_mnist()
    assert source["sha256"] == FASHION_MNIST_SHA256
    assert source["licence"] == "MIT"


def test_a_folder_in_the_format(folder):
    root = folder()
    data = load_fashion_mnist(root)
    assert data["train"]["labels"][:] == [9, 0, 3]
    pixels = read_idx(root / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in data["train"]["image"]]), pixels)
    assert describe_fashion_mnist(root)["licence"] is None
    # Files of the same names with other images are other data.
    changed = load_fashion_mnist(folder())
    assert np.asarray(changed["train"][0]["image"]).tolist() != pixels[0].tolist()


WHOLE = gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)))
BROKEN = {
    "no gzip": ({"images-idx3": b"PK"}, r"train-images-idx3-ubyte\.gz: no whole gzip file"),
    "cut short": ({"images-idx3": WHOLE[:-20]}, r"train-images-idx3-ubyte\.gz: no whole gzip file"),
    "of float": ({"images-idx3": gzip.compress(idx(np.zeros(4, np.uint8), kind=13))}, "it starts with '00000d01'"),
    "empty": ({"images-idx3": gzip.compress(b"")}, "it starts with ''"),
    "cut in the sizes": ({"images-idx3": gzip.compress(b"\0\0\x08\x03\0")}, "before the sizes of its 3 dimensions"),
    "too few values": (
        {"images-idx3": gzip.compress(idx(np.zeros(4, np.uint8))[:-1])},
        r"3 values, but declares \(4,",
    ),
    "too few labels": ({"labels-idx1": gzip.compress(idx(np.uint8([1])))}, r"\(1,\) labels do not fit the \(3, 28"),
    "unknown label": ({"labels-idx1": gzip.compress(idx(np.uint8([1, 2, 10])))}, "label 10 is outside the 10 classes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named(folder, case):
    changed, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        load_fashion_mnist(folder(**changed))


def test_a_missing_file_is_named(folder, tmp_path):
    (folder() / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no t10k-labels-idx1-ubyte\.gz; all four"):
        load_fashion_mnist(tmp_path)


def test_recorded_digests_are_enforced_in_the_default_place(folder, tmp_path, monkeypatch):
    inside = tmp_path / "usr/share/datasets"
    inside.mkdir(parents=True)
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get download dataset-fashion-mnist && dpkg-deb -x"):
        load_fashion_mnist()
    files = list(folder().glob("*.gz"))
    (inside / "fashion-mnist").mkdir()
    for file in files:
        shutil.copy(file, inside / "fashion-mnist")
    recorded = fashion_mnist.FASHION_MNIST_SHA256["train-images-idx3-ubyte.gz"]
    with pytest.raises(ValueError, match=re.escape(f"recorded is {recorded}")):
        load_fashion_mnist()


def test_data_is_found_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv(DATA_FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".data/usr/share/toys").mkdir(parents=True)
    assert debian_folder("usr/share/toys", "toys").resolve() == tmp_path / ".data/usr/share/toys"
    assert str(debian_folder("usr", "base", installed=True)) == ".data/usr"
    with pytest.raises(FileNotFoundError, match=r"no etc below \.data;"):
        debian_folder("etc", "base", installed=False)
