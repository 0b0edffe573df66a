"""What readers of files share: the wheels that hold them, their digests, and the cache of `datasets`."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, NamedSplit
from datasets.exceptions import DatasetGenerationError

from .. import __version__


def wheel_folder(wheel: str, version: str, inside: str, what: str, otherwise: str) -> Path:
    """
    The folder `inside` of an installed wheel, found by its path: importing the wheel would need its dependencies.

    Raises:
        ModuleNotFoundError: The wheel is not installed. The message says how to install it, or what to do `otherwise`.
    """
    try:
        return Path(metadata.distribution(wheel).locate_file(inside))
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} read from the {wheel} wheel, which is not installed: "
            f"`pip install --no-deps {wheel}=={version}`, or {otherwise}"
        ) from error


def sha256_of(
    paths: Mapping[str, Path], recorded: Mapping[str, str] | None = None, advice: str = ""
) -> dict[str, str]:
    """
    The sha256 of each file, under the names of `paths`.

    Raises:
        ValueError: A file is not the recorded one; the message ends with the advice.
    """
    digests = {}
    for name, path in paths.items():
        with open(path, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        if recorded is not None and digests[name] != recorded[name]:
            raise ValueError(f"{path}: its sha256 is {digests[name]}, recorded is {recorded[name]}; {advice}")
    return digests


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


def cached(examples: Callable[..., Iterator[dict]], features: Features, split: str, **source: Any) -> Dataset:
    """
    What `examples(**source)` yields, memory-mapped from the cache of `datasets`.

    The cache is keyed by `source` and by the package's version: of files that are read, `source` tells the content.

    Raises:
        ValueError: `examples` did.
    """
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


__all__ = ["cached", "digest", "sha256_of", "wheel_folder"]
