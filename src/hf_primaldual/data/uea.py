"""The UEA archive of multivariate time series: its `.ts` files as `datasets`.

A `.ts` file is a header of `@directives`, a line `@data`, and then one series a line, `dimension:dimension:...:label`,
a dimension being comma-separated numbers with `?` for a missing one. Here a series is time-major, (time, channels).
"""

from collections.abc import Iterator
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, List, Value

from .files import check_sha256, read_files, sha256_of, wheel_folder

AEON = "aeon==1.6.0"
# Of the files in its wheel, itself sha256 d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409.
AEON_SHA256 = {
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    "BasicMotions_TRAIN.ts": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "BasicMotions_TEST.ts": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    "ArrowHead_TRAIN.ts": "a83c470aaf611a5f5284377cce27a5fc9f6292bc3d110257b0fd4905ced5ee72",
    "ArrowHead_TEST.ts": "5417dab42626d41df5e435bb22458c2df40dfad4bcd3b59559bbe72e20e84904",
    "GunPoint_TRAIN.ts": "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
    "GunPoint_TEST.ts": "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
    "ItalyPowerDemand_TRAIN.ts": "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
    "ItalyPowerDemand_TEST.ts": "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
}

_FLAGS = ("@timestamps", "@missing", "@univariate", "@equallength", "@targetlabel")
_COUNTS = ("@dimensions", "@serieslength")


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
    paths = uea_files(name, folder)
    train, test = (read_ts(path)[0] for path in paths.values())
    if set(train) != set(test):
        raise ValueError(
            f"{paths['test']}: its classes are {', '.join(test)}, those of {paths['train'].name} are "
            f"{', '.join(train)}; they must be the same"
        )
    splits = DatasetDict({split: load_ts(path, split, train) for split, path in paths.items()})
    channels = {split: len(data[0]["past_values"][0]) for split, data in splits.items()}
    if channels["test"] != channels["train"]:
        raise ValueError(
            f"{paths['test']}: its series have {channels['test']} dimensions, those of {paths['train'].name} have "
            f"{channels['train']}; they must have as many"
        )
    return splits


def load_ts(path: str | PathLike, split: str = "train", classes: list[str] | None = None) -> Dataset:
    """One `.ts` file as a split with the columns of `load_uea`, and its classes in the header's order by default."""
    names = read_ts(path)[0] if classes is None else classes
    features = {"past_values": List(List(Value("float64"))), "labels": ClassLabel(names=names)}
    return read_files(_examples, features, {split: [(Path(path).resolve(),)]})[split]


def describe_source(name: str, folder: str | PathLike | None = None) -> dict[str, Any]:
    """Say where `load_uea` takes a task from: `name`, `source`, `sha256` of the file of each split, and `licence`.

    The licence of a folder's files is not known and None. Raises what `load_uea` raises when it looks for the files.
    """
    digests = {split: sha256_of(path) for split, path in uea_files(name, folder).items()}
    if folder is None:
        source, licence = f"UEA archive, shipped in aeon {metadata.version('aeon')}", "BSD-3-Clause (aeon wheel)"
    else:
        source, licence = "UEA archive, a local folder", None
    return {"name": name, "source": source, "sha256": digests, "licence": licence}


def read_ts(path: str | PathLike) -> tuple[list[str], Iterator[tuple[np.ndarray, str]]]:
    """
    Read a `.ts` file of a classification task.

    Returns:
        The names of its classes; and each series, read when it is asked for, a float64 array (time, channels) with NaN
        where a value is missing or a dimension ends before the others, with its label.

    Raises:
        ValueError: A line breaks the format or is cut short, or the header declares time stamps or a regression
            target. The message starts with `path:line`.
    """
    lines = _lines(path)
    header: dict[str, Any] = {}
    where = f"{path}:1"
    for where, line in lines:
        name, *words = line.split()
        name = {"@dimension": "@dimensions"}.get(name.lower(), name.lower())
        if name == "@data":
            break
        # A name decides nothing, and the archive itself has a file with two.
        if name != "@problemname":
            value = _directive(name, words, where)
            if header.setdefault(name, value) != value:
                raise ValueError(f"{where}: {name} contradicts a line above, which declares another value")
    else:
        raise ValueError(f"{where}: the file ends without @data; it is cut short or no .ts file")
    if words:
        raise ValueError(f"{where}: text after @data, which must stand alone on its line")
    if "@classlabel" not in header:
        raise ValueError(f"{where}: @data comes without a @classLabel before it; expected `@classLabel true NAME ...`")
    if header.get("@univariate") and header.setdefault("@dimensions", 1) != 1:
        raise ValueError(
            f"{where}: `@univariate true` and `@dimensions {header['@dimensions']}` contradict each other"
        )
    return header["@classlabel"], _series(lines, header, where)


def uea_files(name: str, folder: str | PathLike | None = None) -> dict[str, Path]:
    """The file of each split of a task; see `load_uea`."""
    root = wheel_folder(AEON, "aeon/datasets/data") if folder is None else Path(folder)
    for place in (root, root / name):
        paths = {"train": place / f"{name}_TRAIN.ts", "test": place / f"{name}_TEST.ts"}
        if all(path.is_file() for path in paths.values()):
            if folder is None:
                advice = f"reinstall it with `pip install --force-reinstall --no-deps {AEON}`"
                check_sha256(paths.values(), AEON_SHA256, advice)
            return paths
    present = sorted({path.name.removesuffix("_TRAIN.ts") for path in root.rglob("*_TRAIN.ts")})
    raise FileNotFoundError(
        f"{root} holds no task {name!r}, {name}_TRAIN.ts and {name}_TEST.ts; present: {', '.join(present) or 'none'}"
    )


def _examples(path: Path) -> Iterator[dict]:
    for series, label in read_ts(path)[1]:
        yield {"past_values": series, "labels": label}


def _lines(path: str | PathLike) -> Iterator[tuple[str, str]]:
    """`path:line` and text of the lines that are neither blank nor a comment."""
    # A comment may be in any encoding. A name that is not UTF-8 is escaped, and a number refused.
    with open(path, encoding="utf-8-sig", errors="backslashreplace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.lstrip().startswith(("#", "%")):
                yield f"{path}:{number}", line


def _directive(name: str, words: list[str], where: str) -> bool | int | list[str]:
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
        return names
    if name.startswith("@"):
        known = ", ".join(("@problemname", *_FLAGS, *_COUNTS, "@classlabel", "@data"))
        raise ValueError(f"{where}: unknown directive {name}, expected one of {known}")
    raise ValueError(f"{where}: a line without a directive in the header; @data must come before the first series")


def _series(lines: Iterator[tuple[str, str]], header: dict[str, Any], where: str) -> Iterator[tuple[np.ndarray, str]]:
    """Series and labels of the lines after the header, which ends at `where`."""
    classes, channels, length = header["@classlabel"], header.get("@dimensions"), header.get("@serieslength")
    empty = True
    for where, line in lines:
        *dimensions, label = (field.strip() for field in line.split(":"))
        channels, empty = channels or max(1, len(dimensions)), False
        if len(dimensions) != channels or label not in classes:
            # Only the last line of a file may lack its end of line, and then it is where a copy broke off.
            cut = "" if line.endswith("\n") else "; the file ends in this line, so it may be cut short"
            raise ValueError(
                f"{where}: the number of dimensions is {len(dimensions)} and the label {label[:40]!r}, expected "
                f"{channels} and then a label of {', '.join(classes)}{cut}"
            )
        columns = [_values(dimension, f"{where}: dimension {place}") for place, dimension in enumerate(dimensions, 1)]
        # In float64: what is large is not standardized yet.
        series = np.full((max(map(len, columns)), channels), np.nan)
        for channel, values in enumerate(columns):
            series[: len(values), channel] = values
        if header.get("@equallength"):
            length = length or len(series)
            if len(series) != length:
                raise ValueError(f"{where}: a series of length {len(series)}, expected {length}: @equalLength is true")
        yield series, label
    if empty:
        raise ValueError(f"{where}: no series after @data; the file is cut short")


def _values(dimension: str, where: str) -> np.ndarray:
    texts = [text.strip() for text in dimension.split(",")]
    try:
        values = np.array(["nan" if text == "?" else text for text in texts], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{where} holds {str(error).rpartition(': ')[2]}, expected a number or `?`") from error
    if np.isinf(values).any():
        raise ValueError(f"{where} holds an infinite value, expected finite numbers or `?`")
    return values
