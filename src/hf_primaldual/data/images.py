"""Images with classes, from a folder, parquet files or the Hub, as `datasets`, whole or streaming.

ImageNet is read in each of its layouts: folders `train` and `val` with one folder a class, parquet files, or the hub
id `ILSVRC/imagenet-1k` (gated: log in first). Its published test labels are all -1 and its validation images are what
papers report on: `load_images(source, test_split="validation")` tests on them and cuts a validation set from `train`.
"""

import io
import warnings
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import (
    ClassLabel,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Value,
)

from .sources import check_test_set, load_splits
from .splits import LABEL_NAMES, column_of, cut_shares, with_classes

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_BUCKETS = 1000
_DEEP = 2**16 - 1


def load_images(
    source: str | PathLike,
    *,
    config: str | None = None,
    streaming: bool = False,
    validation_share: float = 0.1,
    test_share: float | None = None,
    test_split: str = "test",
    image_column: str | None = None,
    label_column: str | None = None,
    skip_unreadable: bool = False,
    revision: str | None = None,
    seed: int = 0,
) -> DatasetDict | IterableDatasetDict:
    """Load a classification task of images.

    Args:
        source: A folder or a data set of the Hub, `owner/name`, as `load_dataset` reads it: images in
            `train/CLASS/*.png` and the like, images with a `metadata.csv` in each split's folder, or parquet files
            whose names or folders tell their split.
        config: Of a data set that has several.
        streaming: Read while training instead of preparing a cache first. A stream has no length, so its training
            needs `--max_steps`.
        validation_share: Where the source has no validation split, or it is the test set: the share of `train` that is
            cut out for it, by class. A stream is cut by a hash of each image's bytes, or of its path's last two
            parts: about that share, the same images each time, each pass reading all of `train`.
        test_share: Likewise for a source without a test split.
        test_split: The split to test on, `"test"` or `"validation"`.
        image_column: The column of images. Default: the only one of type `Image`, or `image`.
        label_column: The column of classes. Default: the only `ClassLabel`, or a column named label or labels.
        skip_unreadable: Leave out images that cannot be read, with a warning that names them.
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
    loaded = load_splits(source, config, revision=revision, streaming=streaming, test_split=test_split)
    check_test_set(loaded, test_share, str(source))
    columns = _columns(source, loaded["train"], image_column, label_column)
    kind = type(loaded)
    # Encoded, for a stream is decoded at each step: what cannot be read must be left out before.
    splits = kind({name: _normalized(split, columns, Image(decode=not streaming)) for name, split in loaded.items()})
    shares = {"test": test_share, "validation": validation_share}
    if streaming:
        _check_classes_of_stream(source, splits)
        if skip_unreadable:
            splits = kind({name: split.filter(_is_readable) for name, split in splits.items()})
        for name, share in shares.items():
            if share is not None and name not in splits:
                # By another hash, or the second cut would find its images gone.
                own = seed + 1 if name == "test" else seed
                splits["train"], splits[name] = _cut_stream(splits["train"], f"`{name}_share`", share, own)
        features = Features({"image": Image(), "labels": splits["train"].features["labels"]})
        # `datasets` takes what a filter gives for decoded; after a map it looks at the features again.
        return kind({name: splits[name].map(_same).cast(features) for name in ("train", "validation", "test")})
    where = {name: f"the {name} set of {source}" for name in splits}
    splits, problems = _looked_at(splits, where, skip_unreadable)
    try:
        splits = with_classes(splits, "labels", where, problems)
    except ValueError as error:
        hint = "; test on its validation images by test_split='validation'"
        is_other = test_split == "test" and "validation" in loaded
        raise ValueError(f"{error}{hint if is_other else ''}") from error
    return cut_shares(splits, shares, seed)


def decode_image(
    cell: "Mapping[str, Any] | PillowImage.Image | str | PathLike | None", at_least: tuple[int, int] | None = None
) -> "PillowImage.Image":
    """Decode an image to RGB, as models are trained on it: turned as its camera noted, 16 bits a channel scaled to 8.

    Args:
        cell: A path; a value of an `Image(decode=False)` column, `bytes` and `path` as `datasets` stores them, one of
            which may be None; or a PIL image.
        at_least: Size to which a JPEG may be decoded, which is faster. Default: its own.

    Raises:
        ValueError: The image cannot be read. The message names the file, if the data tells it.
    """
    return _in_colour(_decoded(cell, at_least))


def _decoded(cell: Any, at_least: tuple[int, int] | None = None) -> "PillowImage.Image":
    """The image as it is saved, turned as its camera noted."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(cell, str | PathLike):
        cell = {"path": str(cell), "bytes": None}
    if cell is None or (isinstance(cell, Mapping) and cell.get("path") is None and cell.get("bytes") is None):
        raise ValueError("there is no image")
    if isinstance(cell, Image.Image):
        name, image = "an image", ImageOps.exif_transpose(cell)
    else:
        path, content = cell.get("path"), cell.get("bytes")
        name = path or f"an image of {len(content)} bytes without a file name"
        try:
            with Image.open(path if content is None else io.BytesIO(content)) as file:
                if at_least is not None:
                    file.draft(None, at_least)
                image = ImageOps.exif_transpose(file)
        except UnidentifiedImageError as error:
            raise ValueError(f"{name}: no readable image (of no known format)") from error
        # By format, Pillow raises OSError, ValueError, SyntaxError, struct.error and its own.
        except Exception as error:
            raise ValueError(f"{name}: no readable image ({type(error).__name__}: {error})") from error
    if image.mode in ("I", "F"):
        raise ValueError(f"{name}: of mode {image.mode}, 32 bits without a white; save it with 8 or 16 bits")
    return image


def _in_colour(image: "PillowImage.Image") -> "PillowImage.Image":
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow would clip it at 255.
        scaled = (np.asarray(image).astype(np.uint32) * 255 + _DEEP // 2) // _DEEP
        image = Image.fromarray(scaled.astype(np.uint8))
    return image.convert("RGB")


def _looked_at(splits: DatasetDict, where: Mapping[str, str], skip_unreadable: bool) -> tuple[DatasetDict, list[str]]:
    """The splits, without what cannot be read if that is skipped, and the problems of their images."""
    kept, deepest = DatasetDict(), []
    problems: list[str] = []
    skipped: list[str] = []
    features = Features({"reason": Value("string"), "deepest": Value("int64")})
    for name, split in splits.items():
        encoded = split.select_columns("image").cast_column("image", Image(decode=False))
        looked = encoded.map(_seen, remove_columns="image", features=features, desc="looking at images")
        reasons, values = column_of(looked, "reason"), column_of(looked, "deepest").drop_null()
        rows = np.flatnonzero(reasons.is_valid())
        if len(rows):
            each = ", ".join(f"row {row}: {reasons[row].as_py()}" for row in rows)
            said = f"{where[name]}: {len(rows)} of {len(split)} images cannot be read ({each})"
            (skipped if skip_unreadable else problems).append(said)
        kept[name] = split.select(np.flatnonzero(reasons.is_null())) if skip_unreadable and len(rows) else split
        deepest += values.to_pylist()
    if problems:
        problems[-1] += "; replace them, or leave them out by `skip_unreadable`"
    if deepest and max(deepest) < 256:
        problems.append(
            f"{len(deepest)} images have 16 bits and no value above 255 of {_DEEP}, which is black; save them with 8"
        )
    elif deepest:
        warnings.warn(
            f"{len(deepest)} images have 16 bits, with values up to {max(deepest)} of {_DEEP}; they are scaled to 8. "
            "Pipelines of transformers clip such files: hand them `hf_primaldual.data.decode_image(path)`.",
            stacklevel=3,
        )
    if skipped:
        warnings.warn(f"left out: {'; '.join(skipped)}", stacklevel=3)
    return kept, problems


def _seen(row: dict[str, Any]) -> dict[str, Any]:
    """Why an image cannot be read, and the highest value of one of 16 bits."""
    try:
        image = _decoded(row["image"], at_least=(1, 1))
        _in_colour(image)
    except ValueError as error:
        return {"reason": str(error), "deepest": None}
    return {"reason": None, "deepest": image.getextrema()[1] if image.mode.startswith("I;16") else None}


def _columns(source: Any, split: Any, image_column: str | None, label_column: str | None) -> dict[str, str]:
    features = split.features if split.features is not None else split._resolve_features().features
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    image = image_column or (images[0] if len(images) == 1 else "image")
    label = label_column or (classes[0] if len(classes) == 1 else None)
    label = label or next((name for name in LABEL_NAMES if name in features), "labels")
    for argument, column in (("image_column", image), ("label_column", label)):
        if column not in features:
            raise ValueError(
                f"{source} has the columns {', '.join(features)}; name the one to take by `{argument}`. A folder of "
                "images gives labels by `train/CLASS/*.png`, one level deep, of two classes or more."
            )
    return {image: "image", label: "labels"}


def _normalized(split: Any, columns: dict[str, str], image: Image) -> Any:
    split = split.cast_column(next(iter(columns)), image).select_columns(list(columns))
    return split.rename_columns({old: new for old, new in columns.items() if old != new})


def _check_classes_of_stream(source: Any, splits: IterableDatasetDict) -> None:
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


def _cut_stream(train: IterableDataset, what: str, share: float, seed: int) -> tuple[IterableDataset, IterableDataset]:
    if not 1 / _BUCKETS <= share <= 1 - 1 / _BUCKETS:
        raise ValueError(f"{what} of a stream must be at least {1 / _BUCKETS} and below 1, got {share}.")
    # Not by position: each worker and each process counts its own.
    sides = ({"validation": side, "share": share, "seed": seed} for side in (False, True))
    return tuple(train.filter(_on_side, fn_kwargs=side) for side in sides)


def _is_readable(row: dict) -> bool:
    return _seen(row)["reason"] is None


def _same(row: dict) -> dict:
    return row


def _on_side(row: dict, validation: bool, share: float, seed: int) -> bool:
    cell = row["image"]
    content = cell["bytes"] if cell["bytes"] is not None else "/".join(Path(cell["path"]).parts[-2:]).encode()
    bucket = zlib.crc32(content, zlib.crc32(str(seed).encode())) % _BUCKETS
    return (bucket < round(share * _BUCKETS)) == validation
