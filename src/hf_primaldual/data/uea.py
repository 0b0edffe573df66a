"""The UEA archive of multivariate time series: its `.ts` files as `datasets`.

A `.ts` file is a header of `@directives`, a line `@data`, and then one series a line, `dimension:dimension:...:label`,
a dimension being comma-separated numbers with `?` for a missing one. Here a series is time-major, (time, channels).
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import __version__

if TYPE_CHECKING:
    from datasets import DatasetDict


class UeaTask(NamedTuple):
    """Published size of a task; `length` is that of its shortest and of its longest series."""

    train: int
    test: int
    classes: int
    channels: int
    length: tuple[int, int]


# The ten tasks of the paper.
UEA_TASKS = {
    "EthanolConcentration": UeaTask(261, 263, 4, 3, (1751, 1751)),
    "FaceDetection": UeaTask(5890, 3524, 2, 144, (62, 62)),
    "Handwriting": UeaTask(150, 850, 26, 3, (152, 152)),
    "Heartbeat": UeaTask(204, 205, 2, 61, (405, 405)),
    "JapaneseVowels": UeaTask(270, 370, 9, 12, (7, 29)),
    "PEMS-SF": UeaTask(267, 173, 7, 963, (144, 144)),
    "SelfRegulationSCP1": UeaTask(268, 293, 2, 6, (896, 896)),
    "SelfRegulationSCP2": UeaTask(200, 180, 2, 7, (1152, 1152)),
    "SpokenArabicDigits": UeaTask(6599, 2199, 10, 13, (4, 93)),
    "UWaveGestureLibrary": UeaTask(120, 320, 8, 3, (315, 315)),
}

# Of the files in aeon-1.6.0-py3-none-any.whl, itself
# sha256 d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409.
AEON_SHA256 = {
    "JapaneseVowels": {
        "train": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
        "test": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    },
    "BasicMotions": {
        "train": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
        "test": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    },
    "ArrowHead": {
        "train": "a83c470aaf611a5f5284377cce27a5fc9f6292bc3d110257b0fd4905ced5ee72",
        "test": "5417dab42626d41df5e435bb22458c2df40dfad4bcd3b59559bbe72e20e84904",
    },
    "GunPoint": {
        "train": "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
        "test": "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
    },
    "ItalyPowerDemand": {
        "train": "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
        "test": "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
    },
    "OSULeaf": {
        "train": "86b9d6e860414ffd26cebc62fff84ffb37fa588ef3e5bf79e4094a437c36ddfc",
        "test": "6c549dd354f9e42d5985fa5fab75321ca9acefc7873457e71467fc8a31f107ce",
    },
    "ACSF1": {
        "train": "0646b90dc4843e02baed6b2ba345c5601a4991b6796565489cef1b2d92a7537b",
        "test": "93e8aaeb44a10af181d24a156e60da7021193cd990ca28f263fccf3b905bfebf",
    },
    "PickupGestureWiimoteZ": {
        "train": "4d303d9990df621c066fc454d62626e3721aed008462103500b86b1ac1ca92c8",
        "test": "a9109bce918e48ee0e924e9cf2fdfdc4de364a3d88ec5e8aa44399ff08b11361",
    },
}

_FLAGS = ("@timestamps", "@missing", "@univariate", "@equallength", "@targetlabel")
_COUNTS = ("@dimensions", "@serieslength")


@dataclass(frozen=True)
class TsFile:
    """What a `.ts` file holds.

    `class_labels` are in the header's order. Each of `rows` is a float64 array (time, channels), NaN where a value is
    missing, and its label.
    """

    problem_name: str
    class_labels: tuple[str, ...]
    channels: int
    rows: Iterable[tuple[np.ndarray, str]]

    @property
    def univariate(self) -> bool:
        return self.channels == 1


def read_ts(path: str | PathLike) -> TsFile:
    """Read a `.ts` file of a classification task.

    Series may differ in length. Where the dimensions of one series do, the shorter are padded with NaN at their end.

    Raises:
        ValueError: The file breaks the format, is cut short, holds an infinite value, carries time stamps or has a
            regression target. The message starts with `path:line`.
    """
    file = _scan(path)
    return replace(file, rows=list(file.rows))


def load_uea(name: str, folder: str | PathLike | None = None) -> "DatasetDict":
    """Load a task of the UEA archive, memory-mapped from the cache of `datasets`. Nothing is downloaded.

    Args:
        name: The task, such as `"JapaneseVowels"`.
        folder: Where the archive is unpacked; it holds `NAME_TRAIN.ts` and `NAME_TEST.ts`, or a folder `NAME` with
            both. By default the files inside the installed `aeon` wheel.

    Returns:
        Splits `train` and `test` with the columns `past_values`, lists (time, channels) of float64, and `labels`, a
        `ClassLabel` named by the header.

    Raises:
        ModuleNotFoundError: No folder is given and `aeon` is not installed.
        FileNotFoundError: The folder holds no such task.
        ValueError: A file breaks the format (see `read_ts`), the two files disagree on classes or channels, or a file
            of the wheel is not the recorded one.
    """
    # `datasets` is an optional extra and slow to import; `read_ts` does without.
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, NamedSplit, Value
    from datasets.exceptions import DatasetGenerationError

    paths = _find(name, folder)
    digests = _digests(name, folder, paths)
    train, test = (_scan(paths[split]) for split in ("train", "test"))
    if set(train.class_labels) != set(test.class_labels):
        raise ValueError(
            f"{paths['test']}: its classes are {_listed(test.class_labels)}, "
            f"those of {paths['train'].name} are {_listed(train.class_labels)}; they must be the same"
        )
    if train.channels != test.channels:
        raise ValueError(
            f"{paths['test']}: its series have {test.channels} dimensions, "
            f"those of {paths['train'].name} have {train.channels}; they must have as many"
        )

    features = Features(
        {"past_values": List(List(Value("float64"))), "labels": ClassLabel(names=list(train.class_labels))}
    )
    splits = DatasetDict()
    for split, path in paths.items():
        # The cache is keyed by these arguments, not by what the file holds or how it was read: name both.
        source = {"path": str(path.resolve()), "sha256": digests[split], "reader": __version__}
        try:
            splits[split] = Dataset.from_generator(
                _examples, features=features, gen_kwargs=source, split=NamedSplit(split)
            )
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None  # it names the line, the wrapper says nothing
            raise
    return splits


def describe_source(name: str, folder: str | PathLike | None = None) -> dict:
    """Say where `load_uea` takes a task from: `name`, `source`, `sha256` of the file of each split, and `licence`.

    The licence of a folder's files is not known and None. Raises what `load_uea` raises when it looks for the files.
    """
    paths = _find(name, folder)
    if folder is None:
        source, licence = f"UEA archive, shipped in aeon {metadata.version('aeon')}", "BSD-3-Clause (aeon wheel)"
    else:
        source, licence = "UEA archive, a local folder", None
    return {"name": name, "source": source, "sha256": _digests(name, folder, paths), "licence": licence}


def _find(name: str, folder: str | PathLike | None) -> dict[str, Path]:
    root = _aeon_folder() if folder is None else Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected the unpacked UEA archive")
    for place in (root, root / name):
        paths = {"train": place / f"{name}_TRAIN.ts", "test": place / f"{name}_TEST.ts"}
        there = [path.is_file() for path in paths.values()]
        if all(there):
            return paths
        if any(there):
            raise FileNotFoundError(f"{place} holds only one of {name}_TRAIN.ts and {name}_TEST.ts; both are needed")
    nested = {path.parent.name for path in root.glob("*/*_TRAIN.ts") if path.name == f"{path.parent.name}_TRAIN.ts"}
    flat = {path.name.removesuffix("_TRAIN.ts") for path in root.glob("*_TRAIN.ts")}
    raise FileNotFoundError(f"{root} holds no task {name!r}; present: {_listed(sorted(nested | flat)) or 'none'}")


def _aeon_folder() -> Path:
    try:
        wheel = metadata.distribution("aeon")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            "the UEA series are read from the aeon wheel, which is not installed: "
            "`pip install --no-deps aeon==1.6.0`, or pass the folder of the unpacked archive"
        ) from error
    # By path: importing aeon would need its dependencies.
    return Path(wheel.locate_file("aeon/datasets/data"))


def _digests(name: str, folder: str | PathLike | None, paths: dict[str, Path]) -> dict[str, str]:
    digests = {}
    for split, path in paths.items():
        with open(path, "rb") as file:
            digests[split] = hashlib.file_digest(file, "sha256").hexdigest()
        if folder is None and name in AEON_SHA256 and digests[split] != AEON_SHA256[name][split]:
            raise ValueError(
                f"{path}: its sha256 is {digests[split]}, recorded is {AEON_SHA256[name][split]}; "
                "reinstall it with `pip install --force-reinstall --no-deps aeon==1.6.0`"
            )
    return digests


def _examples(path: str, sha256: str, reader: str) -> Iterator[dict]:
    for series, label in _scan(path).rows:
        yield {"past_values": series, "labels": label}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _lines(path: str | PathLike) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are neither blank nor a comment."""
    # A comment may be in any encoding, so what is not UTF-8 is an error only elsewhere.
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.lstrip().startswith(("#", "%")):
                continue
            if "\ufffd" in line:
                raise ValueError(f"{path}:{number}: the line is not UTF-8 text, as a .ts file must be")
            yield number, line


def _scan(path: str | PathLike) -> TsFile:
    """Read the header; `rows` is an iterator that reads the rest as it is consumed."""
    lines = _lines(path)
    header, declared_at, number = {}, {}, 1
    for number, line in lines:
        where = f"{path}:{number}"
        directive, *words = line.split()
        directive = directive.lower()
        if directive == "@dimension":
            directive = "@dimensions"
        if directive == "@data":
            if words:
                raise ValueError(f"{where}: text after @data, which must stand alone on its line")
            break
        value = _directive(directive, words, where)
        # The archive itself has a file with two names for the problem; a name decides nothing, so the first is kept.
        if header.setdefault(directive, value) != value and directive != "@problemname":
            raise ValueError(
                f"{where}: {directive} contradicts line {declared_at[directive]}, which declares another value; "
                "keep the right one"
            )
        declared_at.setdefault(directive, number)
    else:
        raise ValueError(f"{path}:{number}: the file ends without @data; it is cut short or no .ts file")

    if "@classlabel" not in header:
        raise ValueError(f"{where}: @data comes without a @classLabel before it; expected `@classLabel true NAME ...`")
    channels, univariate = header.get("@dimensions"), header.get("@univariate")
    if None not in (channels, univariate) and univariate != (channels == 1):
        at = max(declared_at["@dimensions"], declared_at["@univariate"])
        raise ValueError(
            f"{path}:{at}: `@univariate {str(univariate).lower()}` and `@dimensions {channels}` contradict each "
            "other; univariate means one dimension"
        )
    first = next(lines, None)
    lines.close()
    if first is None:
        raise ValueError(f"{where}: no series after @data; the file is cut short")
    start, line = first
    if channels is None:
        channels = 1 if univariate else max(1, line.count(":"))
    labels = header["@classlabel"]
    equal_length = header.get("@equallength", False)
    return TsFile(
        problem_name=header.get("@problemname", ""),
        class_labels=labels,
        channels=channels,
        rows=_rows(path, start, channels, labels, equal_length, header.get("@serieslength")),
    )


def _directive(name: str, words: list[str], where: str) -> bool | int | str | tuple[str, ...]:
    """The value of a directive, checked."""
    lower = [word.lower() for word in words]
    if name == "@problemname":
        return " ".join(words)
    if name in _FLAGS:
        if lower not in (["true"], ["false"]):
            raise ValueError(f"{where}: {name} is {' '.join(words)!r}, expected true or false")
        if name == "@timestamps" and lower == ["true"]:
            raise ValueError(f"{where}: series with time stamps are not supported; expected `@timeStamps false`")
        if name == "@targetlabel" and lower == ["true"]:
            raise ValueError(f"{where}: a regression target is not supported; expected `@classLabel true NAME ...`")
        return lower == ["true"]
    if name in _COUNTS:
        if len(words) != 1 or not words[0].isdecimal() or int(words[0]) == 0:
            raise ValueError(f"{where}: {name} is {' '.join(words)!r}, expected a positive whole number")
        return int(words[0])
    if name == "@classlabel":
        if lower[:1] != ["true"] or len(words) == 1:
            raise ValueError(f"{where}: @classLabel names no classes, expected `@classLabel true NAME ...`")
        if len(set(words[1:])) < len(words[1:]):
            raise ValueError(f"{where}: @classLabel names a class twice, expected each once")
        return tuple(words[1:])
    if name.startswith("@"):
        known = ("@problemname", *_FLAGS, *_COUNTS, "@classlabel", "@data")
        raise ValueError(f"{where}: unknown directive {name}, expected one of {_listed(known)}")
    raise ValueError(f"{where}: a line without a directive in the header; @data must come before the first series")


def _rows(
    path: str | PathLike, start: int, channels: int, labels: tuple[str, ...], equal_length: bool, length: int | None
) -> Iterator[tuple[np.ndarray, str]]:
    """The series from line `start` on; with `equal_length` all of `length`, or else of the first one's."""
    reason = "@seriesLength declares" if length else "@equalLength is true and the first series has"
    for number, line in _lines(path):
        if number < start:
            continue
        where = f"{path}:{number}"
        *dimensions, label = _fields(line, channels, labels, where)
        series = _series(dimensions, where)
        if equal_length:
            length = length or len(series)
            if len(series) != length:
                raise ValueError(f"{where}: a series of length {len(series)}, but {reason} {length}")
        yield series, label


def _fields(line: str, channels: int, labels: tuple[str, ...], where: str) -> list[str]:
    """The dimensions of a data line, as many as `channels` and none empty, and its label."""
    fields = [field.strip() for field in line.split(":")]
    label = fields[-1]
    # Only the last line of a file may lack its end of line, and then it is where a copy broke off.
    cut = "" if line.endswith("\n") else "; the file ends in this line, so it may be cut short"
    found = len(fields) - 1 if label in labels or len(fields) == channels + 1 else len(fields)
    if found != channels:
        raise ValueError(f"{where}: the number of dimensions is {found}, expected {channels} and then a label{cut}")
    if len(fields) == channels or not label:
        raise ValueError(f"{where}: the label is missing, expected one of {_listed(labels)} after the dimensions{cut}")
    if label not in labels:
        raise ValueError(f"{where}: the label {label!r} is not in @classLabel, expected one of {_listed(labels)}{cut}")
    if "" in fields:
        raise ValueError(f"{where}: dimension {fields.index('') + 1} is empty, expected at least one value or `?`")
    return fields


def _series(dimensions: list[str], where: str) -> np.ndarray:
    """Parse comma-separated dimensions into (time, channels), float64: what is large is not standardized yet."""
    texts = ",".join(dimensions).split(",")
    lengths = [dimension.count(",") + 1 for dimension in dimensions]
    try:
        values = np.array(["nan" if text.strip() == "?" else text for text in texts], dtype=np.float64)
    except ValueError as error:
        wrong = next(index for index, text in enumerate(texts) if text.strip() != "?" and not _is_number(text))
        raise ValueError(
            f"{where}: {texts[wrong].strip()!r} in dimension {_dimension(lengths, wrong)} is no number, "
            "expected a number or `?`"
        ) from error
    infinite = np.isinf(values)
    if infinite.any():
        wrong = int(infinite.argmax())
        raise ValueError(
            f"{where}: {texts[wrong].strip()!r} in dimension {_dimension(lengths, wrong)} is infinite, "
            "expected a finite number or `?`"
        )
    longest = max(lengths)
    if min(lengths) == longest:
        return np.ascontiguousarray(values.reshape(len(dimensions), longest).T)
    series = np.full((longest, len(dimensions)), np.nan)
    for channel, dimension in enumerate(np.split(values, np.cumsum(lengths)[:-1])):
        series[: len(dimension), channel] = dimension
    return series


def _dimension(lengths: list[int], index: int) -> int:
    """The dimension, counted from 1, that the value at a flat index belongs to."""
    return int(np.searchsorted(np.cumsum(lengths), index, side="right")) + 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
