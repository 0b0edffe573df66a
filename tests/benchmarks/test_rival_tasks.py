"""The comparison's data: documents of one length with a token a byte, and images of one size."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from rivals.measuring import in_turns
from rivals.tasks import cut_last, fashion_pages, hash_grams, join_and_cut, take_turns

from tests.data.clothes import write_clothes


def test_a_token_a_byte_that_depends_on_four_bytes():
    first, second = hash_grams(b"the moon rises", 4096), hash_grams(b"a full moon", 4096)
    assert first.shape == (14,)
    # "moon" ends at byte 8 of one and at the end of the other.
    assert first[7] == second[-1]
    assert len(set(hash_grams(bytes(range(256)), 2**20))) == 256
    spread = np.bincount(hash_grams(np.random.default_rng(0).bytes(40_000), 41), minlength=41)
    assert (len(spread), spread[0]) == (41, 0)
    assert 800 < spread[1:].min() <= spread[1:].max() < 1200


def test_posts_of_a_group_are_joined_and_cut_the_last_for_validation_and_groups_take_turns():
    labels = ClassLabel(names=["cars", "moon", "other"])
    posts = Dataset.from_dict({"text": ["abc", "xy", "unread", "defgh", "z", "ij"], "label": [0, 1, 2, 0, 1, 0]})
    documents = join_and_cut(posts, labels, ["moon", "cars"], tokens=4)
    assert documents == [[b"xy\nz"], [b"abc\n", b"defg", b"h\nij"]]
    assert take_turns(documents) == [(b"xy\nz", 0), (b"abc\n", 1), (b"defg", 1), (b"h\nij", 1)]
    assert cut_last([[b"a", b"c", b"e"], [b"b", b"d"]], 2) == ([[b"a", b"c"], [b"b"]], [[b"e"], [b"d"]])


def test_a_page_has_images_of_one_class_and_no_image_is_on_two(tmp_path):
    # Bright in their upper half and as bright as their number below.
    labels = [*range(10)] * 13
    pixels = np.full((len(labels), 28, 28), 255, np.uint8)
    pixels[:, 14:] = np.arange(len(labels))[:, None, None]
    folder = write_clothes(tmp_path, pixels, labels)
    task = fashion_pages(64, train=15, validation=10, test=100, folder=folder)
    # 13 images of each class fill 3 pages of 2 x 2; those of the validation are no longer there to train on.
    assert (len(task.train), len(task.validation), len(task.test), task.labels) == (15, 10, 30, 10)
    assert task.train["labels"][:].tolist() == [*range(10), *range(5)]
    seen = []
    for split in (task.train, task.validation):
        for page, label in zip(split["pixel_values"][:], split["labels"][:].tolist(), strict=True):
            values = (page[0] * 0.353 + 0.286) * 255
            # Margins of 4 pixels; within them the upper half of every image is bright.
            assert values[:4].abs().max() < 1e-3
            assert values[4:18, 4:60].numpy() == pytest.approx(255, abs=1e-3)
            numbers = values[[18, 18, 46, 46], [4, 32, 4, 32]].round().int().tolist()
            assert {labels[number] for number in numbers} == {label}
            seen += numbers
    assert len(set(seen)) == len(seen) == 100


def test_a_training_sees_the_classes_in_turns_and_every_row_before_one_twice():
    labels = np.array([2, 0, 1, 1, 0, 2, 0])
    rows = in_turns(labels, 12, seed=3)
    for start in range(0, 12, 3):
        assert sorted(labels[rows[start : start + 3]]) == [0, 1, 2]
    assert {row for row in rows[:6] if labels[row] in (1, 2)} == {0, 2, 3, 5}
    assert {row for row in rows[:9] if labels[row] == 0} == {1, 4, 6}
    assert rows == in_turns(labels, 12, seed=3) != in_turns(labels, 12, seed=4)
    assert rows[:5] == in_turns(labels, 5, seed=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: cut_last([[b"xy"], [b"a", b"b"]], 2), r"`validation_documents` \(2\) must leave .* has 1"),
        (lambda folder: fashion_pages(16, 10, 10, 10, folder=folder), "a page must have 28 x 28 pixels at least"),
        (lambda folder: fashion_pages(128, 10, 10, 10, folder=folder), "too few images for pages of 128"),
    ],
)
def test_too_few_and_too_small_are_refused(call, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(write_clothes(tmp_path, np.zeros((10, 28, 28), np.uint8), list(range(10))))
