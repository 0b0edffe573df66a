"""Examples without labels, as a user has them: lines of text files, or images in a folder."""

from pathlib import Path

from datasets import Dataset, Image

from ..data import decode_image
from ..data.sources import read_splits


def read_texts(files: list[str]) -> Dataset:
    """The lines that are not empty, as the column `text`."""
    data = read_splits(", ".join(files), "text", data_files=files, split="train")
    return data.filter(str.strip, input_columns="text")


def read_images(folder: str) -> Dataset:
    """The images, as they lie there, as the column `image`: cells for `decode_image`."""
    data = read_splits(folder, "imagefolder", data_dir=folder, split="train", drop_labels=True)
    return data.cast_column("image", Image(decode=False))


def draw_examples(path: Path, count: int) -> list:
    """So many of the texts of a file or the images of a folder, always the same."""
    data = read_images(str(path)) if path.is_dir() else read_texts([str(path)])
    data = data.shuffle(seed=0)
    data = data.select(range(min(count, len(data))))
    return [decode_image(cell) for cell in data["image"]] if path.is_dir() else list(data["text"])


__all__ = ["draw_examples", "read_images", "read_texts"]
