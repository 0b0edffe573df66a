"""DeiT's augmentations, each alone, on scikit-learn's digits and on images that tell where their pixels came from."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hf_primaldual.training.augmentation import Augmentation, AugmentationArguments, random_shift
from hf_primaldual.training.losses import soft_target_cross_entropy
from hf_primaldual.training.samplers import RepeatedSampler


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def augmentation(size: int = 16, **settings) -> Augmentation:
    return Augmentation(AugmentationArguments(**settings), size, 10, [0.4] * 3, [0.2] * 3)


def flat(count: int = 10, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one value each, which tells them apart, and labels that are these values."""
    labels = torch.arange(count)
    return labels.float().view(-1, 1, 1, 1).expand(count, 3, size, size).clone(), labels


def test_images_are_augmented_one_by_one_and_again_from_the_same_seed():
    pixels = torch.from_numpy(load_digits().images[:40] / 16).float()[:, None].expand(-1, 3, -1, -1)
    images = torch.nn.functional.interpolate(pixels, size=(16, 16))
    augment = augmentation(rand_augment=[2, 27], horizontal_flip=0.5)
    outcomes = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outcomes.append(augment(images, torch.zeros(40))[0])
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])
    assert (outcomes[0].min(), outcomes[0].max()) >= (0, 0)
    assert outcomes[0].max() <= 1
    # Copies of one image get operations of their own.
    copies = augmentation(rand_augment=[2, 27])(images[:1].expand(20, -1, -1, -1), torch.zeros(20))[0]
    assert len({tuple(copy.flatten().tolist()) for copy in copies}) > 10


def test_a_crop_takes_a_part_of_the_asked_area():
    # An image of its own coordinates tells where a part of it came from.
    rows = torch.linspace(0, 1, 100)[:, None].expand(100, 80)
    columns = torch.linspace(0, 1, 80).expand(100, 80)
    augment, areas = augmentation(32, crop_scale=[0.1, 0.5]), []
    for _ in range(50):
        part = augment.crop(torch.stack([rows, columns]))
        assert part.shape == (2, 32, 32)
        spans = part.amax((1, 2)) - part.amin((1, 2))
        areas.append((spans[0] * spans[1]).item())
    assert 0.05 < min(areas) < 0.2
    assert 0.4 < max(areas) < 0.55


def test_flips_and_noise_fall_on_single_images():
    images, labels = flat(200, 32)
    images[..., 0] = -1
    flipped = augmentation(horizontal_flip=0.25)(images, labels)[0]
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (mirrored | (flipped == images).flatten(1).all(1)).all()
    assert 30 < mirrored.sum() < 70

    images = torch.full((200, 3, 32, 32), 7.0)
    erased = augmentation(random_erasing=0.25)(images, labels)[0]
    changed = erased != 7
    touched = changed.flatten(1).any(1)
    assert 30 < touched.sum() < 70
    for mask in changed[touched, 0]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        area = len(rows) * len(columns)
        assert mask.sum() == area
        assert 0.01 < area / 1024 < 0.36
    # Noise of the data's own moments.
    assert erased[changed].mean() == pytest.approx(0.4, abs=0.01)
    assert erased[changed].std() == pytest.approx(0.2, abs=0.01)


def test_images_are_shifted_one_by_one():
    # One bright pixel in the middle, in another channel for each image, tells where an image went.
    images = torch.zeros(60, 3, 9, 9)
    images[torch.arange(60), torch.arange(60) % 3, 4, 4] = 1
    places = random_shift(images, 2).nonzero()
    assert places[:, 0].tolist() == list(range(60))
    assert places[:, 1].tolist() == [index % 3 for index in range(60)]
    assert {(row, column) for *_, row, column in places.tolist()} <= {(r, c) for r in range(2, 7) for c in range(2, 7)}
    assert len({tuple(place) for place in places[:, 2:].tolist()}) > 10


@pytest.mark.parametrize("kinds", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}], ids="+".join)
def test_targets_are_mixed_as_the_pixels_are(kinds):
    images, labels = flat()
    augment, whole, shares = augmentation(**kinds), [], []
    for _ in range(40):
        mixed, targets = augment(images, labels)
        torch.testing.assert_close(targets.sum(1), torch.ones(10))
        torch.testing.assert_close(targets @ labels.float(), mixed.mean((1, 2, 3)), atol=1e-4, rtol=1e-4)
        # CutMix makes no new values.
        whole.append(bool((mixed == mixed.round()).all()))
        shares.append(targets.max().item())
    assert {len(kinds)} == {len(set(whole))}
    assert max(shares) - min(shares) > 0.3


def test_the_loss_of_soft_targets_is_that_of_torch_and_counts_as_trainer_does():
    labels, outputs = torch.tensor([2, 0, 1]), type("Outputs", (), {"logits": torch.randn(3, 5)})
    expected = torch.nn.functional.cross_entropy(outputs.logits, labels, label_smoothing=0.1)
    # Every entry of the labels, here of two accumulated batches.
    for target in (labels, torch.nn.functional.one_hot(labels, 5).float()):
        count = torch.tensor(2 * target.numel())
        torch.testing.assert_close(soft_target_cross_entropy(outputs, target, label_smoothing=0.1), expected)
        torch.testing.assert_close(soft_target_cross_entropy(outputs, target, count, 0.1), expected / 2)


@pytest.mark.parametrize("processes", [1, 4])
def test_repeated_images_are_dealt_to_the_processes(processes):
    clock = torch.zeros(2, dtype=torch.int64)
    sampler = RepeatedSampler(range(120), repeats=3, batch_size=5, processes=processes, clock=clock)
    order = list(sampler)
    assert len(order) == len(sampler) == 120
    assert np.bincount(np.bincount(order, minlength=120)).tolist() == [80, 0, 0, 40]
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order
    # As Accelerate hands out the batches: one each, in turn. Of four processes none gets an image twice in a batch.
    copies = max(np.bincount(batch).max() for batch in np.reshape(order, (-1, 5)))
    assert copies == (3 if processes == 1 else 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"horizontal_flip": 1.5}, "`horizontal_flip` must be a probability"),
        ({"mixup": -1.0}, "`mixup` must be an alpha"),
        ({"crop_scale": [0.5, 0.1]}, "`crop_scale` must be two shares"),
        ({"rand_augment": [2, 30]}, "`rand_augment` must be a number of operations, 1 to 15, and their strength"),
        ({"random_shift": -1}, "`random_shift` must be a number of pixels"),
        ({"repeated_augmentation": 0}, "`repeated_augmentation` must be at least 1"),
    ],
)
def test_an_impossible_setting_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        AugmentationArguments(**fields)
