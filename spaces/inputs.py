"""What the page takes: bundled examples and what somebody brings, checked. Bad input is a `ValueError`, a sentence."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

EXAMPLES = Path(__file__).parent / "examples"
# The columns of `series.csv` that are no channels.
_ABOUT = ["series", "speaker", "step"]
# scikit-learn's digits are so large.
_DIGIT = 8


def load_series() -> dict[str, pd.DataFrame]:
    """The bundled test series by what they are called, each a table with a row for each step."""
    table = pd.read_csv(EXAMPLES / "series.csv")
    return {
        f"test series {index}, speaker {speaker}": rows.drop(columns=_ABOUT).reset_index(drop=True)
        for (index, speaker), rows in table.groupby(["series", "speaker"])
    }


def load_digits() -> list[str]:
    """The files of the bundled test images."""
    return sorted(str(path) for path in (EXAMPLES / "digits").glob("*.png"))


def load_texts() -> list[str]:
    """The bundled texts."""
    return json.loads((EXAMPLES / "texts.json").read_text(encoding="utf-8"))


def read_csv(path: str) -> pd.DataFrame:
    """A series out of a CSV file: a line with the names of the channels, then one for each step."""
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"The file is no CSV that can be read: {' '.join(str(error).split())}.") from error
    if len(pd.to_numeric(pd.Series(table.columns), errors="coerce").dropna()):
        raise ValueError("The file's first line must hold the names of the channels, got numbers.")
    return table


def as_series(table: pd.DataFrame, channels: int, longest: int) -> np.ndarray:
    """The values `(time, channels)` of a table, which somebody may have edited."""
    if table.shape[1] != channels:
        raise ValueError(f"A series must have {channels} channels, a column for each, got {table.shape[1]}.")
    if not 1 <= len(table) <= longest:
        raise ValueError(f"A series must have 1 to {longest} steps, a row for each, got {len(table)}.")
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"Every cell must hold a finite number, but row {row + 1} of column {table.columns[column]} holds "
            f"{str(table.iloc[row, column])!r}."
        )
    return values


def as_curve(drawing: Image.Image | None, steps: int, lowest: float, highest: float) -> np.ndarray:
    """
    What is drawn, dark on white or on nothing, as values `(steps,)`: its first stroke on the left is the first step,
    the last on the right the last; the lower edge is the lowest value, the upper the highest.
    """
    ink = np.zeros((1, 1), bool) if drawing is None else np.asarray(_on_white(drawing)) < 128
    columns = np.flatnonzero(ink.any(axis=0))
    if len(columns) < 2:
        raise ValueError("There is no curve: draw one from left to right.")
    thickness = ink[:, columns].sum(axis=0)
    heights = np.arange(len(ink)) @ ink[:, columns] / thickness / (len(ink) - 1)
    return np.interp(np.linspace(columns[0], columns[-1], steps), columns, highest - (highest - lowest) * heights)


def as_digit(path: str | None) -> Image.Image:
    """
    A picture as the training images are: a white digit on black that fills a square of 8 x 8 pixels. One that is
    darker than its ground is inverted.
    """
    if path is None:
        raise ValueError("There is no image: choose an example, or drop a file.")
    try:
        grey = _on_white(Image.open(path))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError("The file is no image that Pillow reads: drop a PNG or JPEG.") from error
    if grey.size == (_DIGIT, _DIGIT):
        return grey
    darkest, brightest = grey.getextrema()
    if brightest - darkest < 32:
        raise ValueError("The image is of one tone: draw a digit that stands out from its ground.")
    if np.asarray(grey).mean() > (darkest + brightest) / 2:
        grey = ImageOps.invert(grey)
    grey = ImageOps.autocontrast(grey)
    digit = grey.crop(grey.point(lambda value: 255 * (value > 96)).getbbox())
    return ImageOps.pad(digit, (_DIGIT, _DIGIT), method=Image.Resampling.BOX, color=0)


def _on_white(picture: Image.Image) -> Image.Image:
    """A picture in grey, white where it is transparent."""
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")


def as_text(text: str) -> str:
    """A text as the training texts are: lower case, without punctuation and digits."""
    cleaned = re.sub("[^a-z]+", " ", (text or "").lower()).strip()
    if not cleaned:
        raise ValueError(f"The text must have letters from a to z, got {(text or '')[:20]!r}.")
    return cleaned
