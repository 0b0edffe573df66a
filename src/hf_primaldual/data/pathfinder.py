"""Pathfinder of Long Range Arena (Linsley et al., 2018; Tay et al., 2021): do two discs lie on one dashed contour?

An image holds two long contours, distractors, and a disc at the start of one contour and one at the far end of the
same or of the other; which one is a fair coin. Written from a description of the published generator: the images are
alike, not equal. Here grey values are not stretched, and no single dashes are strewn in.

How a contour grows: from a dash one looks `MARGIN` pixels ahead, and among the points at a dash's reach around that
place draws the next dash's end, with weight max(0, cos(min(angle, 90°)))² times how free the point is. A dash that
would cross another is drawn again, three times at most, and an image whose contours get stuck is begun again.

Measured on 4000 images of seed 0: 5.0 % of the attempts at `PATHFINDER` succeed, with 4.4 of its five distractors, and
41 % of those at `PATHFINDER_LITE`, with 4.9.
"""

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from datasets import ClassLabel, DatasetDict, Features, List, Value

from .generated import load_generated

# In pixels.
SIZE, SEED_DISTANCE, PADDING = 32, 7, 1
DASH_LENGTH, DASH_THICKNESS, MARGIN, MARKER_RADIUS = 2, 0.5, 1, 1.5
# In dashes.
DISTRACTOR_LENGTH = 4
# Dashes and discs are drawn so many times as large and then made smaller.
ANTIALIAS = 2
# Grey values of dashes times these stop at white: distractors are brighter, as in the published images.
CONTOUR_CONTRAST, DISTRACTOR_CONTRAST = 1.5, 2.0
# Two dashes overlap where the sum of their shares of a pixel reaches this.
_CROSSING = 1.8
_TRIES_OF_A_DASH, _TRIES_OF_A_DISTRACTOR = 3, 5


@dataclass(frozen=True)
class PathfinderSpec:
    """What is drawn: the dashes of each of the two contours, and distractors."""

    contour_length: int = 14
    distractors: int = 5

    def __post_init__(self) -> None:
        if self.contour_length < 2 or self.distractors < 0:
            raise ValueError(
                "`contour_length` must be at least 2 and `distractors` 0, got "
                f"{self.contour_length} and {self.distractors}"
            )


PATHFINDER = PathfinderSpec()
PATHFINDER_LITE = PathfinderSpec(contour_length=6)
"""Short contours, the easiest of the three difficulties that were released."""


def load_pathfinder(
    spec: PathfinderSpec = PATHFINDER, sizes: tuple[int, int, int] = (160_000, 20_000, 20_000), seed: int = 0
) -> DatasetDict:
    """
    Generate Pathfinder, by default as large as in Long Range Arena: splits of these sizes that share nothing, with the
    columns `input_ids`, 1024 grey values, and `labels`, `different` or `same`. See `load_generated`.
    """
    pixels, labels = List(Value("uint8"), length=SIZE**2), ClassLabel(names=["different", "same"])
    return load_generated(draw_pathfinder, spec, sizes, seed, Features({"input_ids": pixels, "labels": labels}))


def draw_pathfinder(spec: PathfinderSpec, rng: random.Random) -> dict | None:
    """One attempt at an image: `input_ids` and `labels`, or None where a contour found no way on."""
    brushes = _brushes()
    contours = _seeds(brushes, rng)
    # Each contour's map lacks its own latest dash, which the next one would touch.
    maps = [brushes.edge.copy() for _ in contours]
    for own, contour in enumerate(contours):
        _occupy(maps[1 - own], contour.dashes[-1])
    if _crosses(maps[1], contours[1].dashes[-1]):
        return None
    for _ in range(spec.contour_length - 1):
        for own, contour in enumerate(contours):
            if not contour.grow(maps[own], rng):
                return None
            _occupy(maps[1 - own], contour.dashes[-1])
    image = brushes.empty()
    for contour in contours:
        contour.paint(image, CONTOUR_CONTRAST)
    # Together they lack nothing.
    occupied = np.maximum(*maps)
    for _ in range(spec.distractors):
        for _ in range(_TRIES_OF_A_DISTRACTOR):
            trial = occupied.copy()
            distractor = _distractor(brushes, trial, rng)
            if distractor is not None:
                distractor.paint(image, DISTRACTOR_CONTRAST)
                occupied = trial
                break
    first, same = rng.randrange(2), rng.randrange(2)
    last = contours[first if same else 1 - first]
    for place in (contours[first].start, last.head):
        _stamp(image, brushes.disc, place)
    return {"input_ids": np.rint(255 * np.minimum(brushes.inside(image), 1)).astype(np.uint8).ravel(), "labels": same}


def _seeds(brushes: "Brushes", rng: random.Random) -> list["Contour"]:
    """Two contours of one dash: the first starts near the middle, the second `SEED_DISTANCE` from it."""
    low, high = 2 * SEED_DISTANCE, SIZE - 2 * SEED_DISTANCE
    row, column = rng.randrange(low, high), rng.randrange(low, high)
    direction = rng.random() * 2 * math.pi
    other = round(row + SEED_DISTANCE * math.sin(direction)), round(column + SEED_DISTANCE * math.cos(direction))
    return [Contour(brushes, place, rng.randrange(360)) for place in ((row, column), other)]


def _distractor(brushes: "Brushes", occupied: np.ndarray, rng: random.Random) -> "Contour | None":
    """A contour that starts on a free point and is added to `occupied`, or None where it found no way."""
    free = np.argwhere(brushes.inside(occupied[1]) < 0.3)
    if not len(free):
        return None
    contour = Contour(brushes, tuple(free[rng.randrange(len(free))].tolist()), rng.randrange(360))
    if _crosses(occupied, contour.dashes[-1]):
        return None
    for _ in range(DISTRACTOR_LENGTH - 1):
        if not contour.grow(occupied, rng):
            return None
    _occupy(occupied, contour.dashes[-1])
    return contour


class Dash(NamedTuple):
    """
    What is painted of a dash, around the end at which it is put down; and maps, (2, height, width), of the points that
    it takes with its margin, and of those that are near, with the margin of another dash.
    """

    line: np.ndarray
    maps: np.ndarray


Put = tuple[Dash, tuple[int, int]]
"""A dash at its place."""


class Brushes:
    """
    Dashes by direction, and how probable each turn is. A direction is an index: below 360 whole degrees, of a
    contour's first dash, then one for each point of the `ring` around a place, of the dash that ends on it.
    """

    def __init__(self) -> None:
        self.half = DASH_LENGTH + math.ceil(DASH_THICKNESS) + 2 * MARGIN
        reach = DASH_LENGTH + MARGIN
        around = np.arange(0, 2 * math.pi, 1 / reach)
        self.ring = np.unique(np.rint(reach * np.stack((np.sin(around), np.cos(around)), 1)).astype(int), axis=0)
        self.ring_rows, self.ring_columns = (self.ring + self.half).T
        to_ring = np.arctan2(self.ring[:, 0], self.ring[:, 1])
        self.angles = np.concatenate((np.radians(np.arange(360)), to_ring))
        turns = np.abs(self.angles[:, None] - to_ring) % (2 * math.pi)
        turns = np.minimum(turns, 2 * math.pi - turns)
        self.weights = np.maximum(np.cos(np.minimum(turns, math.pi / 2)), 0) ** 2
        directions = np.stack((np.sin(self.angles), np.cos(self.angles)), 1)
        self.heads = np.rint(DASH_LENGTH * directions).astype(int)
        # From a first dash's start, or from the place around which a later one was drawn.
        ahead = np.full(len(self.angles), reach + MARGIN)
        ahead[:360] = reach
        self.steps = np.rint(ahead[:, None] * directions).astype(int)
        radius = MARKER_RADIUS * ANTIALIAS
        self.disc = self._shrink(lambda draw, center: draw.circle((center, center), radius, fill=255))
        # Outside of the image and on its padding everything counts as taken.
        taken, width = self.empty() + 1, self.half + PADDING
        taken[width:-width, width:-width] = 0
        self.edge = np.stack((taken, _dilate(taken, MARGIN)))
        self.dash = functools.cache(self._dash)

    def empty(self) -> np.ndarray:
        """A black image, with an edge for what is put down close to it."""
        return np.zeros((SIZE + 2 * self.half,) * 2)

    def inside(self, image: np.ndarray) -> np.ndarray:
        """The image without that edge."""
        return image[self.half : -self.half, self.half : -self.half]

    def _dash(self, direction: int) -> Dash:
        # A first dash is put down at its start, the others at their end.
        angle = self.angles[direction] + (0 if direction < 360 else math.pi)
        length, width = DASH_LENGTH * ANTIALIAS, round(DASH_THICKNESS * ANTIALIAS)

        def line(draw: Any, center: float) -> None:
            end = (center + round(length * math.cos(angle)), center + round(length * math.sin(angle)))
            draw.line([(center, center), end], fill=255, width=width)

        taken = self._shrink(line, MARGIN * ANTIALIAS)
        return Dash(self._shrink(line), np.stack((taken, _dilate(taken, MARGIN))))

    def _shrink(self, paint: Callable[[Any, int], None], margin: int = 0) -> np.ndarray:
        """What `paint` draws `antialias` times as large, made wider by `margin` there, at its own size."""
        from PIL import Image, ImageDraw

        center = self.half * ANTIALIAS
        image = Image.new("L", (2 * center + 1,) * 2)
        draw = ImageDraw.Draw(image)
        paint(draw, center)
        image = Image.fromarray(_dilate(np.asarray(image), margin))
        image = image.resize((2 * self.half + 1,) * 2, Image.Resampling.LANCZOS)
        return np.asarray(image) / 255


class Contour:
    """A row of dashes, that grows at its `head`."""

    def __init__(self, brushes: Brushes, start: tuple[int, int], direction: int):
        self.brushes, self.start, self.direction = brushes, start, direction
        self.head = _moved(start, brushes.heads[direction])
        self.dashes = [(brushes.dash(direction), start)]
        self._around = start

    def grow(self, occupied: np.ndarray, rng: random.Random) -> bool:
        """Adds a dash, and to `occupied` the one before, which it lacks. False where there is no way."""
        brushes = self.brushes
        around = _moved(self._around, brushes.steps[self.direction])
        rows, columns = brushes.ring_rows + around[0], brushes.ring_columns + around[1]
        sums = np.cumsum((1 - occupied[1, rows, columns]) * brushes.weights[self.direction])
        if sums[-1] < 1e-4:
            return False
        for _ in range(_TRIES_OF_A_DASH):
            point = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
            head = _moved(around, brushes.ring[point])
            put = (brushes.dash(360 + point), head)
            if not _crosses(occupied, put):
                _occupy(occupied, self.dashes[-1])
                self.dashes.append(put)
                self.head, self.direction, self._around = head, 360 + point, around
                return True
        return False

    def paint(self, image: np.ndarray, contrast: float) -> None:
        """Paints the dashes over what the image holds, where they are brighter."""
        for dash, place in self.dashes:
            _stamp(image, contrast * dash.line, place)


_brushes = functools.cache(Brushes)


def _moved(place: tuple[int, int], step: np.ndarray) -> tuple[int, int]:
    return place[0] + int(step[0]), place[1] + int(step[1])


def _occupy(occupied: np.ndarray, put: Put) -> None:
    """Takes the points of a dash in a map (2, height, width) of those that are taken, and of those that are near."""
    dash, place = put
    _stamp(occupied, dash.maps, place)


def _crosses(occupied: np.ndarray, put: Put) -> bool:
    """Whether a dash would lie on what is taken."""
    dash, place = put
    return bool((_window(occupied[0], dash.maps[0], place) + dash.maps[0]).max() >= _CROSSING)


def _window(image: np.ndarray, stamp: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The part of an image with its edge that a stamp around `place` covers."""
    return image[..., place[0] : place[0] + stamp.shape[-2], place[1] : place[1] + stamp.shape[-1]]


def _stamp(image: np.ndarray, stamp: np.ndarray, place: tuple[int, int]) -> None:
    window = _window(image, stamp, place)
    np.maximum(window, stamp, out=window)


def _dilate(image: np.ndarray, radius: int) -> np.ndarray:
    """Each point takes the greatest value of a disc around it."""
    from scipy import ndimage

    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return ndimage.grey_dilation(image, footprint=rows**2 + columns**2 <= radius**2, mode="nearest")
