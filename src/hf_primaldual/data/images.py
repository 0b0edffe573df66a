"""Images with classes, from a folder, parquet files or the Hub, as `datasets`, whole or streaming.

ImageNet is read in each of its layouts: folders `train` and `val` with one folder a class, parquet files, or the hub
id `ILSVRC/imagenet-1k` (gated: log in first). Its published test labels are all -1 and its validation images are what
papers report on: `load_images(source, test_split="validation")` tests on them and cuts a validation set from `train`.
"""

import io
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Value,
    load_dataset,
)

from .splits import column_of, cut_validation, problem, with_classes

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_BUCKETS = 1000
_LABEL_NAMES = ("labels", "label", "fine_label", "class", "target")


def load_images(
    source: str | PathLike,
    *,
    streaming: bool = False,
    validation_share: float = 0.1,
    test_split: str = "test",
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    seed: int = 0,
) -> DatasetDict | IterableDatasetDict:
    """Load a classification task of images.

    Args:
        source: A folder or a data set of the Hub, `owner/name`, as `load_dataset` reads it: images in
            `train/CLASS/*.png` and the like, or parquet files whose names or folders tell their split.
        streaming: Read while training instead of preparing a cache first. A stream has no length, so its training
            needs `--max_steps`.
        validation_share: Where the source has no validation split, or it is the test set: the share of `train` that is
            cut out for it, by class. A stream is cut by a hash of each image's bytes, or of its path's last two
            parts: about that share, the same images each time, each pass reading all of `train`.
        test_split: The split to test on, `"test"` or `"validation"`.
        image_column: The column of images. Default: the only one of type `Image`, or `image`.
        label_column: The column of classes. Default: the only `ClassLabel`, or a column named label or labels.
        revision: Of a data set of the Hub.
        seed: Of the cut.

    Returns:
        Splits `train`, `validation` and `test` with the columns `image` and `labels`, a `ClassLabel`.

    Raises:
        FileNotFoundError: A folder without images or parquet files.
        ValueError: A split or column is missing or cannot be told from others, images cannot be read, labels are
            missing or are no classes that `train` has, or the share leaves a class without an image on either side.
            Images are looked at once, as the cache of `datasets` remembers; a stream's when they are trained on.
    """
    if test_split not in ("test", "validation"):
        raise ValueError(f"`test_split` must be test or validation, got {test_split!r}.")
    loaded = load_dataset(str(source), revision=revision, streaming=streaming)
    wanted = {"train": "train", "test": test_split}
    hint = ""
    if test_split == "test" and "validation" in loaded:
        wanted["validation"] = "validation"
        hint = "; test on its validation images by test_split='validation'"
    for split in wanted.values():
        if split not in loaded:
            raise ValueError(f"{source} has the splits {', '.join(loaded)}, but no {split}{hint}.")
    columns = _columns(source, loaded["train"], image_column, label_column)
    kind = IterableDatasetDict if streaming else DatasetDict
    splits = kind({name: _normalized(loaded[split], columns) for name, split in wanted.items()})
    if streaming:
        _check_classes_of_stream(source, splits)
        if "validation" not in splits:
            splits["train"], splits["validation"] = _cut_stream(splits["train"], validation_share, seed)
    else:
        where = {name: f"the {name} set of {source}" for name in splits}
        problems = [broken for name, split in splits.items() for broken in _broken(split, where[name])]
        try:
            splits = with_classes(splits, "labels", where, problems)
        except ValueError as error:
            raise ValueError(f"{error}{hint}") from error
        if "validation" not in splits:
            splits = cut_validation(splits, validation_share, seed=seed)
    return kind({name: splits[name] for name in ("train", "validation", "test")})


def decode_image(
    cell: "Mapping[str, Any] | PillowImage.Image | None", at_least: tuple[int, int] | None = None
) -> "PillowImage.Image":
    """Decode one value of an `Image(decode=False)` column, or convert an image that is decoded already, to RGB.

    The image is turned as its camera noted, as pipelines of transformers do it.

    Args:
        cell: `bytes` and `path` as `datasets` stores them, one of which may be None, or a PIL image.
        at_least: Size to which a JPEG may be decoded, which is faster. Default: its own.

    Raises:
        ValueError: The image cannot be read. The message names the file, if the data tells it.
    """
    from PIL import Image, ImageOps

    if isinstance(cell, Image.Image):
        return ImageOps.exif_transpose(cell).convert("RGB")
    path, content = (None, None) if cell is None else (cell.get("path"), cell.get("bytes"))
    if path is None and content is None:
        raise ValueError("there is no image")
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            if at_least is not None:
                image.draft(None, at_least)
            if image.mode == "F" or (image.mode.startswith("I") and image.getextrema()[1] > 255):
                raise ValueError(f"of mode {image.mode}, it would be clipped to 8 bits; save it with 8 bits a channel")
            return ImageOps.exif_transpose(image).convert("RGB")
    # By format, Pillow raises OSError, ValueError, SyntaxError, struct.error and its own.
    except Exception as error:
        name = path or f"an image of {len(content or b'')} bytes without a file name"
        raise ValueError(
            f"{name}: no readable image ({type(error).__name__}: {error}); replace or remove it"
        ) from error


def _broken(split: Dataset, where: str) -> list[str]:
    """The problem of images that cannot be read, with the first of their reasons."""
    encoded = split.select_columns("image").cast_column("image", Image(decode=False))
    looked = encoded.map(
        _reason, remove_columns="image", features=Features({"reason": Value("string")}), desc="looking at images"
    )
    reasons = column_of(looked, "reason")
    rows = np.flatnonzero(reasons.is_valid())
    first = " and ".join(reasons[row].as_py() for row in rows[:3])
    return problem(where, rows, len(split), f"images cannot be read, such as {first}")


def _reason(row: dict[str, Any]) -> dict[str, str | None]:
    try:
        decode_image(row["image"], at_least=(1, 1))
    except ValueError as error:
        return {"reason": str(error)}
    return {"reason": None}


def _columns(source, split, image_column: str | None, label_column: str | None) -> dict[str, str]:
    features = split.features if split.features is not None else split._resolve_features().features
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    image = image_column or (images[0] if len(images) == 1 else "image")
    label = label_column or (classes[0] if len(classes) == 1 else None)
    label = label or next((name for name in _LABEL_NAMES if name in features), "labels")
    for argument, column in (("image_column", image), ("label_column", label)):
        if column not in features:
            raise ValueError(
                f"{source} has the columns {', '.join(features)}; name the one to take by `{argument}`. A folder of "
                "images gives labels by `train/CLASS/*.png`, one level deep, of two classes or more."
            )
    return {image: "image", label: "labels"}


def _normalized(split, columns: dict[str, str]):
    split = split.select_columns(list(columns))
    split = split.rename_columns({old: new for old, new in columns.items() if old != new})
    return split.cast_column("image", Image())


def _check_classes_of_stream(source, splits: IterableDatasetDict) -> None:
    labels = splits["train"].features["labels"]
    if not isinstance(labels, ClassLabel):
        raise ValueError(
            f"{source}: its labels are {labels}, and a stream cannot be looked through for the names of the classes; "
            "store them as a ClassLabel, or load without streaming."
        )
    for name, split in splits.items():
        if split.features["labels"] != labels:
            found = getattr(split.features["labels"], "names", split.features["labels"])
            raise ValueError(f"{source}: the classes of {name} are {found}, those of train are {labels.names}.")


def _cut_stream(train: IterableDataset, share: float, seed: int) -> tuple[IterableDataset, IterableDataset]:
    if not 1 / _BUCKETS <= share <= 1 - 1 / _BUCKETS:
        raise ValueError(f"`validation_share` of a stream must be at least {1 / _BUCKETS} and below 1, got {share}.")
    encoded = train.cast_column("image", Image(decode=False))
    # Not by position: each worker and each process counts its own.
    sides = (
        encoded.filter(_on_side, fn_kwargs={"validation": side, "share": share, "seed": seed})
        for side in (False, True)
    )
    # `datasets` takes what a filter gives for decoded; a map that does nothing makes it look at the features again.
    return tuple(side.map(_same).cast(train.features) for side in sides)


def _same(row: dict) -> dict:
    return row


def _on_side(row: dict, validation: bool, share: float, seed: int) -> bool:
    cell = row["image"]
    content = cell["bytes"] if cell["bytes"] is not None else "/".join(Path(cell["path"]).parts[-2:]).encode()
    bucket = zlib.crc32(content, zlib.crc32(str(seed).encode())) % _BUCKETS
    return (bucket < round(share * _BUCKETS)) == validation
