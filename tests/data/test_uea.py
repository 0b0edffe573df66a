"""The reader of `.ts` files and the loader of the UEA archive, on the series in the aeon wheel and on small files."""

import re
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from hf_primaldual.data import describe_source, load_uea, read_ts, uea

HEADER = """\
# A comment
@problemName Toy
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true left right
@data
"""
ROWS = "1,2,3:4,5,6:left\n7,8:9,10:right\n"


def aeon_file(name: str, split: str) -> Path:
    # A missing wheel fails here: these tests are not to be skipped.
    return Path(metadata.distribution("aeon").locate_file(f"aeon/datasets/data/{name}/{name}_{split}.ts"))


@pytest.fixture
def archive(tmp_path):
    """Writes a task into a folder, nested as the archive has it or flat."""

    def write(train=HEADER + ROWS, test=HEADER + ROWS, nested=True) -> Path:
        folder = tmp_path / "Toy" if nested else tmp_path
        folder.mkdir(exist_ok=True)
        (folder / "Toy_TRAIN.ts").write_text(train)
        (folder / "Toy_TEST.ts").write_text(test)
        return tmp_path

    return write


def read(folder: Path, text: str | bytes) -> list[tuple[list, str]]:
    path = folder / "toy.ts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(series.tolist(), label) for series, label in read_ts(path)[1]]


def test_japanese_vowels_is_what_its_files_say():
    data = load_uea("JapaneseVowels")
    assert {name: len(split) for name, split in data.items()} == {"train": 270, "test": 370}
    assert data["train"].features["labels"].names == [str(n) for n in range(1, 10)]
    assert Counter(data["train"]["labels"]) == dict.fromkeys(range(9), 30)
    *dimensions, label = aeon_file("JapaneseVowels", "TRAIN").read_text().splitlines()[-1].split(":")
    by_channel = np.array([[float(value) for value in dimension.split(",")] for dimension in dimensions])
    np.testing.assert_array_equal(data["train"][-1]["past_values"], by_channel.T)
    assert int(label) - 1 == data["train"][-1]["labels"]
    assert "aeon" not in sys.modules


def test_the_wheel_is_asked_for_and_its_files_are_the_recorded_ones(monkeypatch, archive):
    assert describe_source("JapaneseVowels") == {
        "name": "JapaneseVowels",
        "source": f"UEA archive, shipped in aeon {metadata.version('aeon')}",
        "sha256": {split: uea.AEON_SHA256[f"JapaneseVowels_{split.upper()}.ts"] for split in ("train", "test")},
        "licence": "BSD-3-Clause (aeon wheel)",
    }
    folder = describe_source("Toy", archive())
    assert (folder["source"], folder["licence"]) == ("UEA archive, a local folder", None)
    with pytest.raises(FileNotFoundError, match=r"no task 'Heartbeat'.*; present: .*BasicMotions, .*JapaneseVowels"):
        load_uea("Heartbeat")
    monkeypatch.setitem(uea.AEON_SHA256, "BasicMotions_TRAIN.ts", "0" * 64)
    with pytest.raises(ValueError, match=r"BasicMotions_TRAIN\.ts: its sha256 is 8dc43cc6.*recorded is 0000"):
        load_uea("BasicMotions")

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install --no-deps aeon==1.6.0")):
        load_uea("JapaneseVowels")


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_classes_of_a_folder_are_numbered_as_in_its_training_file(archive, nested):
    data = load_uea("Toy", archive(test=HEADER.replace("left right", "right left") + ROWS, nested=nested))
    rows = {"past_values": [[[1, 4], [2, 5], [3, 6]], [[7, 9], [8, 10]]], "labels": [0, 1]}
    assert data["train"][:] == data["test"][:] == rows


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (HEADER.replace("left right", "left up") + "1:2:up\n", "its classes are left, up, .*TRAIN.ts are left, right"),
        ("@classLabel true left right\n@data\n1,2:left\n", r"its series have 1 dimensions, .*TRAIN\.ts have 2"),
        (HEADER + "1:2:left\n1:x:left\n", r"Toy_TEST\.ts:11: dimension 2 holds 'x'"),
    ],
)
def test_files_of_a_task_must_agree(archive, test, message):
    with pytest.raises(ValueError, match=message):
        load_uea("Toy", archive(test=test))


NAN = np.nan
READ = {
    "directives in any case, spacing and spelling": (
        "\ufeff#c\n\n @PROBLEMNAME\tToy  One\n@Dimension 2\n@Missing FALSE\n@classlabel True b a\n@DATA\n"
        "# between series\n\n 1 , -2e-1 : .5,+4. : a \n3:4:b",
        [[[1, 0.5], [-0.2, 4]], [[3, 4]]],
    ),
    "missing values and short dimensions": (
        HEADER + "1,?,3:?, ? ,nan:left\n1,2,3:4:right\n?:5,6:right\n",
        [[[1, NAN], [NAN, NAN], [3, NAN]], [[1, 4], [2, NAN], [3, NAN]], [[NAN, 5], [NAN, 6]]],
    ),
    "a comment in another encoding": (b"# Universit\xe9\n" + (HEADER + "1:4:left\n").encode(), [[[1, 4]]]),
    "directives and names twice": ("@problemName Other\n@dimensions 2\n" + HEADER + "1:4:left\n", [[[1, 4]]]),
    "a length that is a bound": ("@seriesLength 3\n" + HEADER + "1:4:left\n", [[[1, 4]]]),
}


@pytest.mark.parametrize("case", READ)
def test_what_a_file_may_hold(tmp_path, case):
    text, expected = READ[case]
    for text in (text, text.replace("\n", "\r\n") if isinstance(text, str) else text):
        for (series, _), values in zip(read(tmp_path, text), expected, strict=True):
            np.testing.assert_array_equal(series, np.float64(values))


def header(**changes: str | None) -> str:
    """`HEADER` with directives replaced by a line, or dropped."""
    lines = HEADER.splitlines(keepends=True)
    for name, line in changes.items():
        lines = [(line or "#") + "\n" if old.startswith(f"@{name}") else old for old in lines]
    return "".join(lines)


EQUAL = header(equalLength="@equalLength true")
# text, the line the error names, what it says
BROKEN = {
    "no @data": ("@problemName Toy\n@classLabel true a b\n", 2, "the file ends without @data"),
    "text after @data": (header(data="@data 1,2:3,4:left"), 9, "text after @data"),
    "no series": (HEADER + "\n# nothing\n", 9, "no series after @data; the file is cut short"),
    "series before @data": (header(data=None) + ROWS, 10, "@data must come before the first series"),
    "cut before the label": (HEADER + "1,2:3,4", 10, "dimensions is 1 and the label '3,4', .* may be cut short"),
    "changing dimensions": (header(dimensions=None) + ROWS + "1:2:3:left\n", 12, "dimensions is 3 .* expected 2"),
    "word": (HEADER + "1,two:3,4:left\n", 10, "dimension 1 holds 'two', expected a number"),
    "not UTF-8": ((HEADER + "1:2:left\n").encode() + b"1:\xe9:left\n", 11, "dimension 2 holds .*xe9"),
    "infinite": (HEADER + "1,2:3,-inf:left\n", 10, "dimension 2 holds an infinite value"),
    "unknown label": (HEADER + "1,2:3,4:up\n", 10, "the label 'up', expected 2 and then a label of left, right"),
    "no @classLabel": (header(classLabel=None) + ROWS, 9, "@data comes without a @classLabel"),
    "class twice": (header(classLabel="@classLabel true left left"), 8, "each once, got 'true left left'"),
    "time stamps": (header(timeStamps="@timeStamps true"), 3, "time stamps are not supported"),
    "regression": (header(classLabel="@targetLabel true"), 8, "regression target is not supported"),
    "no flag": (header(missing="@missing maybe"), 4, "@missing is 'maybe', expected true or false"),
    "no count": (header(dimensions="@dimensions -2"), 6, "@dimensions is '-2', expected a positive whole number"),
    "unknown directive": (header(dimensions="@dimenson 2"), 6, "unknown directive @dimenson, expected one of"),
    "contradicting": (header(missing="@dimension 3"), 6, "@dimensions contradicts a line above"),
    "univariate and two": (header(univariate="@univariate true"), 9, "`@univariate true` and `@dimensions 2`"),
    "not the declared length": ("@seriesLength 4\n" + EQUAL + ROWS, 11, "length 3, expected 4: @equalLength is true"),
    "unequal lengths": (EQUAL + ROWS, 11, "length 2, expected 3: @equalLength is true"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path, case):
    text, line, message = BROKEN[case]
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/toy.ts:{line}: ")
