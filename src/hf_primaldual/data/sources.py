"""Data sets of the Hub and folders of the same layout: their splits by three names, and what the data are called."""

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import DatasetDict, IterableDatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError

# By these names, in this order, a data set has its splits.
_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
# What a file or a folder is called for its place in a data set, which is no name of the data.
_NO_NAMES = {"", "train", "training", "data", "dataset"}
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def read_splits(where: str, *args: Any, **options: Any) -> Any:
    """What `load_dataset` reads; where it cannot, `where` and the reason in a sentence."""
    try:
        return load_dataset(*args, **options)
    # `datasets` looks for the first row of JSON, and stops.
    except (DatasetGenerationError, ValueError, StopIteration) as error:
        said = " ".join(f"{error.__cause__ or str(error) or 'it is empty'}".split())
        advice = "; name one by `dataset_config`" if "Config name is missing" in said else ""
        raise ValueError(f"{where} cannot be read: {said}{advice}") from error


def load_splits(
    source: str | PathLike,
    config: str | None = None,
    *,
    revision: str | None = None,
    streaming: bool = False,
    test_split: str = "test",
) -> DatasetDict | IterableDatasetDict:
    """
    The splits `train`, `validation` and `test`, as far as there are any, of a data set of the Hub, `owner/name`, or of
    a folder that `load_dataset` reads as one. With `test_split="validation"` its validation set is the test set.

    Raises:
        ConnectionError, FileNotFoundError: There is no such data set, or no data in the folder.
        ValueError: It cannot be read, or has no split to train on.
    """
    if test_split not in ("test", "validation"):
        raise ValueError(f"`test_split` must be test or validation, got {test_split!r}.")
    # A folder may be called as one of the readers of `datasets`, such as csv.
    place = str(Path(source).resolve()) if Path(source).is_dir() else str(source)
    loaded = read_splits(str(source), place, config, revision=revision, streaming=streaming)
    found = {name: next((one for one in names if one in loaded), None) for name, names in _SPLITS.items()}
    if test_split == "validation":
        found["test"] = found.pop("validation")
    if found["train"] is None:
        raise ValueError(f"{source} has no split train, only {', '.join(loaded)}.")
    return type(loaded)({name: loaded[split] for name, split in found.items() if split is not None})


def check_test_set(splits: Mapping[str, Any], test_share: float | None, where: str) -> None:
    """Refuses splits without a test set where no share is cut out for it, and a share where there is one."""
    if "test" in splits and test_share is not None:
        raise ValueError(f"`test_share` cuts a test set out of the training set, and {where} has one; leave it out.")
    if "test" not in splits and test_share is None:
        advice = ", or test on its validation set by `test_split='validation'`" if "validation" in splits else ""
        raise ValueError(
            f"{where} has the splits {', '.join(splits)}, but no test; cut one out of train by `test_share`{advice}."
        )


def described(source: str | PathLike, config: str | None = None, revision: str | None = None) -> dict[str, Any]:
    """What `results.json` keeps of where a data set of the Hub or a folder is from: `name`, `source`, `hub_id`."""
    is_folder = Path(source).exists()
    parts = [f"a local folder {Path(source).resolve().name}" if is_folder else str(source)]
    parts += [config] if config else []
    parts += [f"revision {revision}"] if revision else []
    found = {"name": data_name(source), "source": ", ".join(parts)}
    return found if is_folder else {**found, "hub_id": str(source)}


def data_name(source: str | PathLike) -> str:
    """
    What data are called that lie in a file or a folder, or have an id: `reviews` for `reviews/train.csv`, for
    `reviews_train.csv` and for `owner/reviews`. Letters that no address has become hyphens.
    """
    path = Path(source)
    path = path.resolve() if path.exists() else path
    *folders, last = path.parts
    last = Path(last.removesuffix(".gz")).stem if path.is_file() else last
    # train-00000-of-00001, reviews_train
    last = re.sub(r"([-_.]|^)(train|training)([-_.]\d+-of-\d+)?$", "", last, flags=re.IGNORECASE)
    names = ("-".join(_NAME.findall(part)).strip("-._") for part in (last, *reversed(folders)))
    return next((name for name in names if name.lower() not in _NO_NAMES), "data")


def check_name(name: str | None) -> None:
    """Refuses a `name` of data that no repository can have, before training and not when the card is written."""
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"`name` must be of letters, digits, `.`, `_` and `-`, as in an address, got {name!r}.")
