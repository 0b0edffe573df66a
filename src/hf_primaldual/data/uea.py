"""The UEA archive of multivariate time series: its `.ts` files as `datasets`.

A `.ts` file is a header of `@directives`, a line `@data`, and then one series a line, `dimension:dimension:...:label`,
a dimension being comma-separated numbers with `?` for a missing one. Here a series is time-major, (time, channels).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from os import PathLike
from pathlib import Path

import numpy as np
from datasets import ClassLabel, DatasetDict, Features, List, Value

from .files import cached, sha256_of, wheel_folder

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
}

_FLAGS = ("@timestamps", "@missing", "@univariate", "@equallength", "@targetlabel")
_COUNTS = ("@dimensions", "@serieslength")


@dataclass(frozen=True)
class TsFile:
    """A `.ts` file: what its header says, and its series, which are read when they are asked for."""

    path: str | PathLike
    class_labels: tuple[str, ...]
    channels: int
    equal_length: bool
    length: int | None
    start: int

    def rows(self) -> Iterator[tuple[np.ndarray, str]]:
        """
        Each series, a float64 array (time, channels) with NaN where a value is missing, and its label.

        Where the dimensions of one series differ in length, the shorter are padded with NaN at their end.

        Raises:
            ValueError: A line breaks the format, is cut short or holds an infinite value. The message starts with
                `path:line`.
        """
        length, reason = self.length, "@seriesLength declares"
        for number, line in _lines(self.path):
            if number < self.start:
                continue
            where = f"{self.path}:{number}"
            *dimensions, label = _fields(line, self.channels, self.class_labels, where)
            series = _series(dimensions, where)
            if self.equal_length:
                if length is None:
                    length, reason = len(series), "@equalLength is true and the first series has"
                if len(series) != length:
                    raise ValueError(f"{where}: a series of length {len(series)}, but {reason} {length}")
            yield series, label


def load_uea(name: str, folder: str | PathLike | None = None) -> DatasetDict:
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
    paths = _find(name, folder)
    digests = _digests(name, folder, paths)
    train, test = (read_ts(paths[split]) for split in ("train", "test"))
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
    labels = ClassLabel(names=list(train.class_labels))
    features = Features({"past_values": List(List(Value("float64"))), "labels": labels})
    return DatasetDict(
        {
            split: cached(_examples, features, split, path=path.resolve(), sha256=digests[split])
            for split, path in paths.items()
        }
    )


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


def read_ts(path: str | PathLike) -> TsFile:
    """Read the header of a `.ts` file of a classification task.

    Raises:
        ValueError: It breaks the format, is cut short, or declares time stamps or a regression target. The message
            starts with `path:line`.
    """
    lines = _lines(path)
    header, number = {}, 1
    for number, line in lines:
        where = f"{path}:{number}"
        name, *words = line.split()
        name = {"@dimension": "@dimensions"}.get(name.lower(), name.lower())
        if name == "@data":
            if words:
                raise ValueError(f"{where}: text after @data, which must stand alone on its line")
            break
        # A name decides nothing, and the archive itself has a file with two.
        if name != "@problemname":
            value = _directive(name, words, where)
            if header.setdefault(name, value) != value:
                raise ValueError(f"{where}: {name} contradicts a line above, which declares another value")
    else:
        raise ValueError(f"{path}:{number}: the file ends without @data; it is cut short or no .ts file")
    if "@classlabel" not in header:
        raise ValueError(f"{where}: @data comes without a @classLabel before it; expected `@classLabel true NAME ...`")
    channels, univariate = header.get("@dimensions"), header.get("@univariate")
    if None not in (channels, univariate) and univariate != (channels == 1):
        raise ValueError(
            f"{where}: `@univariate {str(univariate).lower()}` and `@dimensions {channels}` contradict each other; "
            "univariate means one dimension"
        )
    start, line = next(lines, (number, None))
    lines.close()
    if line is None:
        raise ValueError(f"{where}: no series after @data; the file is cut short")
    return TsFile(
        path=path,
        class_labels=header["@classlabel"],
        channels=channels or (1 if univariate else max(1, line.count(":"))),
        equal_length=header.get("@equallength", False),
        length=header.get("@serieslength"),
        start=start,
    )


def _find(name: str, folder: str | PathLike | None) -> dict[str, Path]:
    if folder is None:
        otherwise = "pass the folder of the unpacked archive"
        root = wheel_folder("aeon", "1.6.0", "aeon/datasets/data", "the UEA series are", otherwise)
    else:
        root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected the unpacked UEA archive")
    for place in (root, root / name):
        paths = {"train": place / f"{name}_TRAIN.ts", "test": place / f"{name}_TEST.ts"}
        there = [path.is_file() for path in paths.values()]
        if all(there):
            return paths
        if any(there):
            raise FileNotFoundError(f"{place} holds only one of {name}_TRAIN.ts and {name}_TEST.ts; both are needed")
    present = sorted({path.name.removesuffix("_TRAIN.ts") for path in root.rglob("*_TRAIN.ts")})
    raise FileNotFoundError(f"{root} holds no task {name!r}; present: {_listed(present) or 'none'}")


def _digests(name: str, folder: str | PathLike | None, paths: dict[str, Path]) -> dict[str, str]:
    recorded = AEON_SHA256.get(name) if folder is None else None
    return sha256_of(paths, recorded, "reinstall it with `pip install --force-reinstall --no-deps aeon==1.6.0`")


def _examples(path: Path, sha256: str) -> Iterator[dict]:
    for series, label in read_ts(path).rows():
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


def _directive(name: str, words: list[str], where: str) -> bool | int | tuple[str, ...]:
    """The value of a directive, checked."""
    written = " ".join(words)
    if name in _FLAGS:
        if written.lower() not in ("true", "false"):
            raise ValueError(f"{where}: {name} is {written!r}, expected true or false")
        is_true = written.lower() == "true"
        if is_true and name == "@timestamps":
            raise ValueError(f"{where}: series with time stamps are not supported; expected `@timeStamps false`")
        if is_true and name == "@targetlabel":
            raise ValueError(f"{where}: a regression target is not supported; expected `@classLabel true NAME ...`")
        return is_true
    if name in _COUNTS:
        if not written.isdecimal() or int(written) == 0:
            raise ValueError(f"{where}: {name} is {written!r}, expected a positive whole number")
        return int(written)
    if name == "@classlabel":
        flag, *names = words or [""]
        if flag.lower() != "true" or not names or len(set(names)) < len(names):
            raise ValueError(f"{where}: @classLabel must be `@classLabel true NAME ...`, each once, got {written!r}")
        return tuple(names)
    if name.startswith("@"):
        known = ("@problemname", *_FLAGS, *_COUNTS, "@classlabel", "@data")
        raise ValueError(f"{where}: unknown directive {name}, expected one of {_listed(known)}")
    raise ValueError(f"{where}: a line without a directive in the header; @data must come before the first series")


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
    parsed = [_values(dimension, where, place) for place, dimension in enumerate(dimensions, 1)]
    series = np.full((max(map(len, parsed)), len(parsed)), np.nan)
    for channel, values in enumerate(parsed):
        series[: len(values), channel] = values
    return series


def _values(dimension: str, where: str, place: int) -> np.ndarray:
    texts = [text.strip() for text in dimension.split(",")]
    try:
        values = np.array(["nan" if text == "?" else text for text in texts], dtype=np.float64)
    except ValueError as error:
        wrong = str(error).rpartition(": ")[2]
        raise ValueError(f"{where}: {wrong} in dimension {place} is no number, expected a number or `?`") from error
    if (infinite := np.isinf(values)).any():
        wrong = texts[int(infinite.argmax())]
        raise ValueError(f"{where}: {wrong!r} in dimension {place} is infinite, expected a finite number or `?`")
    return values


__all__ = ["TsFile", "describe_source", "load_uea", "read_ts"]
