"""DeiT's augmentations, each alone, on scikit-learn's digits and on images that tell where their pixels came from."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hf_primaldual.training.augmentation import Augmentation, AugmentationArguments, random_shift
from hf_primaldual.training.losses import soft_target_cross_entropy
from hf_primaldual.training.samplers import RepeatedSampler


def augmentation(size: int = 16, **settings) -> Augmentation:
    return Augmentation(AugmentationArguments(**settings), size, 10, [0.4] * 3, [0.2] * 3)


def test_images_are_augmented_one_by_one():
    pixels = torch.from_numpy(load_digits().images[:1] / 16).float()[:, None].expand(20, 3, -1, -1)
    images = torch.nn.functional.interpolate(pixels, size=(16, 16))
    copies = augmentation(rand_augment=[2, 27], horizontal_flip=0.5)(images, torch.zeros(20))[0]
    assert len({tuple(copy.flatten().tolist()) for copy in copies}) > 10
    assert (copies.min() >= 0) & (copies.max() <= 1)
    assert torch.equal(augmentation(horizontal_flip=1.0)(images, torch.zeros(20))[0], images.flip(-1))


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


def test_noise_of_the_datas_own_moments_falls_on_rectangles_of_single_images():
    images = torch.full((200, 3, 32, 32), 7.0)
    erased = augmentation(32, random_erasing=0.25)(images, torch.zeros(200))[0]
    changed = erased != 7
    touched = changed.flatten(1).any(1)
    assert 30 < touched.sum() < 70
    for mask in changed[touched, 0]:
        area = mask.any(1).sum() * mask.any(0).sum()
        assert mask.sum() == area
        assert 0.01 < area / 1024 < 0.36
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
    # Images of one value each, which tells them apart, and labels that are these values.
    labels = torch.arange(10)
    images = labels.float().view(-1, 1, 1, 1).expand(10, 3, 16, 16)
    augment, whole, shares = augmentation(**kinds), [], []
    for _ in range(40):
        mixed, targets = augment(images.clone(), labels)
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
