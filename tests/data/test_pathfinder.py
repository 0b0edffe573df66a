"""Pathfinder: the generator against the facts of Long Range Arena."""

import itertools
import random

import numpy as np
import pytest
from scipy import ndimage

from hf_primaldual.data import PATHFINDER, PATHFINDER_LITE, PathfinderSpec, load_pathfinder
from hf_primaldual.data.generated import generate
from hf_primaldual.data.pathfinder import Brushes, Contour, draw_pathfinder


def discs(image: np.ndarray) -> list[tuple[float, float]]:
    """Centres of white discs: a dash is too thin to leave anything of a plus of five nearly white points."""
    cross = ndimage.generate_binary_structure(2, 1)
    found, number = ndimage.label(ndimage.binary_erosion(image > 200, cross))
    return ndimage.center_of_mass(found > 0, found, range(1, number + 1))


@pytest.mark.parametrize(
    ("spec", "attempts", "share"), [(PATHFINDER, 1000, 0.050), (PATHFINDER_LITE, 300, 0.414)], ids=["full", "lite"]
)
def test_share_of_attempts_that_succeed(spec, attempts, share):
    rng = random.Random("acceptance")
    accepted = sum(draw_pathfinder(spec, rng) is not None for _ in range(attempts))
    assert abs(accepted / attempts - share) < 4 * (share * (1 - share) / attempts) ** 0.5


def test_without_distractors_a_label_tells_whether_the_discs_are_connected():
    # Short contours, far apart, are told from each other by closing their gaps.
    found, labels = [], []
    spec = PathfinderSpec(contour_length=4, distractors=0)
    for example in itertools.islice(generate(draw_pathfinder, spec, 0), 200):
        image = np.asarray(example["input_ids"]).reshape(32, 32)
        assert (image.dtype, image.max()) == (np.uint8, 255)
        labels.append(example["labels"])
        centers = discs(image)
        contours, number = ndimage.label(ndimage.binary_dilation(image > 40, np.ones((3, 3))), np.ones((3, 3)))
        # Where contours touch, or a disc hides another, this reading of an image does not tell.
        if number == 2 and len(centers) == 2:
            first, second = (contours[round(row), round(column)] for row, column in centers)
            assert (first == second) == bool(example["labels"])
            found.append(first == second)
    assert 10 < sum(found) < len(found) - 10
    # Four standard deviations of a fair coin.
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / 200**0.5


def test_a_contour_turns_gently_and_keeps_its_dashes_apart():
    brushes, rng, turns = Brushes(), random.Random("turns"), []
    for _ in range(100):
        contour, occupied = Contour(brushes, (16, 16), rng.randrange(360)), brushes.edge.copy()
        directions = [contour.direction]
        while len(directions) < 8 and contour.grow(occupied, rng):
            directions.append(contour.direction)
        turns += ((np.diff(brushes.angles[directions]) + np.pi) % (2 * np.pi) - np.pi).tolist()
        heads = np.array([place for _, place in contour.dashes[1:]])
        assert (np.linalg.norm(heads[:, None] - heads, axis=-1) + 9 * np.eye(len(heads)) > 2).all()
    # The weight is zero at a right angle, and both sides have the same chance.
    assert np.abs(turns).max() < np.pi / 2
    assert abs(np.mean(turns)) < 4 * np.std(turns) / len(turns) ** 0.5
    assert len(turns) > 500


def test_splits_are_images_of_1024_tokens():
    splits = load_pathfinder(PATHFINDER_LITE, (12, 4, 4))
    assert splits["train"].features["labels"].names == ["different", "same"]
    assert [len(row) for split in splits.values() for row in split["input_ids"]] == [1024] * 20
    with pytest.raises(ValueError, match="`contour_length` must be at least 2 and `distractors` 0, got 1 and 5"):
        PathfinderSpec(contour_length=1)
