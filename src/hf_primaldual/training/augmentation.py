"""
The data side of DeiT's recipe (Touvron et al., 2021), with kornia's operations.

Everything is drawn from torch's global random state: equal seeds give equal images.
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field

import torch
from kornia import augmentation as kornia
from kornia.augmentation.auto import RandAugment
from torch.nn import functional as F
from torch.utils.data import Sampler


@dataclass
class AugmentationArguments:
    """What is done to training images; by default nothing. `imagenet_deit_tiny.yaml` has DeiT's values."""

    crop_scale: list[float] | None = field(
        default=None, metadata={"help": "Random resized crop of this share of the area, such as 0.08 1."}
    )
    random_shift: int = field(default=0, metadata={"help": "Shift by up to so many pixels each way; black comes in."})
    horizontal_flip: float = field(default=0.0, metadata={"help": "Probability of a flip."})
    rand_augment: list[int] | None = field(
        default=None, metadata={"help": "kornia's RandAugment: operations an image, and their strength of 1 to 29."}
    )
    random_erasing: float = field(default=0.0, metadata={"help": "Probability of a rectangle of noise."})
    mixup: float = field(default=0.0, metadata={"help": "Mixup's alpha; 0 for none."})
    cutmix: float = field(default=0.0, metadata={"help": "CutMix's alpha; 0 for none."})
    mixup_switch: float = field(default=0.5, metadata={"help": "Share of batches with CutMix, where both are on."})
    repeated_augmentation: int = field(default=1, metadata={"help": "How often an image is drawn, each time anew."})

    def __post_init__(self):
        for name in ("horizontal_flip", "random_erasing", "mixup_switch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be a probability from 0 to 1, got {getattr(self, name)}.")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be an alpha of at least 0, got {getattr(self, name)}.")
        crop = self.crop_scale
        if crop is not None and not (len(crop) == 2 and 0 < crop[0] <= crop[1] <= 1):
            raise ValueError(f"`crop_scale` must be two shares of the area, 0 < low <= high <= 1; got {crop}.")
        strength = self.rand_augment
        if strength is not None and not (len(strength) == 2 and 1 <= strength[0] <= 15 and 1 <= strength[1] <= 29):
            raise ValueError(
                f"`rand_augment` must be a number of operations, 1 to 15, and their strength, 1 to 29; got {strength}."
            )
        if self.random_shift < 0:
            raise ValueError(f"`random_shift` must be a number of pixels, at least 0, got {self.random_shift}.")
        if self.repeated_augmentation < 1:
            raise ValueError(f"`repeated_augmentation` must be at least 1, got {self.repeated_augmentation}.")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that their labels are probabilities."""
        return self.mixup > 0 or self.cutmix > 0


class Augmentation:
    """
    What `args` say is done to the images of a training batch.

    Args:
        args (`AugmentationArguments`): the settings.
        size (`int`): height and width of the images that the model sees.
        classes (`int`): number of classes.
        mean, std (`list[float]`): of each channel; erased rectangles get noise of these moments.
    """

    def __init__(self, args: AugmentationArguments, size: int, classes: int, mean: list[float], std: list[float]):
        self.args, self.size, self.classes = args, size, classes
        self._mean, self._std = (torch.tensor(moment)[:, None, None] for moment in (mean, std))
        self._crop = kornia.RandomResizedCrop((size, size), tuple(args.crop_scale or (1, 1)))
        self._flip = kornia.RandomHorizontalFlip(p=args.horizontal_flip)
        self._rand_augment = RandAugment(*args.rand_augment) if args.rand_augment else None
        self._erase = kornia.RandomErasing((0.02, 1 / 3), (0.3, 1 / 0.3), p=args.random_erasing)

    def crop(self, image: torch.Tensor) -> torch.Tensor:
        """A random part of an image `(channels, height, width)`, resized; kornia's own resizing has no antialias."""
        corners = self._crop.forward_parameters(image[None].shape)["src"][0].int().tolist()
        (left, top), (right, bottom) = corners[0], corners[2]
        part = image[None, :, top : bottom + 1, left : right + 1]
        return F.interpolate(part, (self.size, self.size), mode="bicubic", antialias=True)[0].clamp(0, 1)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            images (`torch.Tensor` of shape `(batch, channels, size, size)`): values from 0 to 1.
            labels (`torch.Tensor` of shape `(batch,)`): class indices.

        Returns:
            `tuple`: Images of the same shape, and the labels, or where images are mixed the probabilities
            `(batch, classes)`.
        """
        if self.args.random_shift:
            images = random_shift(images, self.args.random_shift)
        if self.args.horizontal_flip:
            images = self._flip(images)
        if self._rand_augment:
            # One by one: kornia draws the operations once for a batch.
            images = torch.cat([self._rand_augment(image[None]) for image in images]).clamp(0, 1)
        if self.args.random_erasing:
            erased = self._erase(torch.ones_like(images)) == 0
            images = torch.where(erased, self._mean + self._std * torch.randn_like(images), images)
        return self._mix(images, labels) if self.args.mixes else (images, labels)

    def _mix(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixup or CutMix, one share for the batch."""
        args, settings = self.args, {"data_keys": ["input", "class"], "same_on_batch": True}
        cuts = torch.rand(()) < (args.mixup_switch if args.mixup and args.cutmix else float(args.cutmix > 0))
        if cuts:
            mix = kornia.RandomCutMixV2(beta=args.cutmix, use_correct_lambda=True, **settings)
        else:
            # kornia's own share is uniform.
            share = torch.distributions.Beta(args.mixup, args.mixup).sample()
            mix = kornia.RandomMixUpV2(lambda_val=(share, share), **settings)
        images, mixed = mix(images, labels)
        ours, theirs, share = mixed.view(-1, 3).unbind(1)
        ours, theirs = (F.one_hot(side.long(), self.classes).float() for side in (ours, theirs))
        # kornia tells the share of the other image in Mixup, and that of the image itself in CutMix.
        return images, torch.lerp(ours, theirs, (1 - share if cuts else share)[:, None])


def random_shift(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Images (batch, channels, height, width), each shifted by up to `pixels` each way; 0 comes in at the edges."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4)
    tops, lefts = torch.randint(2 * pixels + 1, (2, batch, 1))
    rows, columns = tops + torch.arange(height), lefts + torch.arange(width)
    # Indices around the channels put those last.
    shifted = padded[torch.arange(batch)[:, None, None], :, rows[:, :, None], columns[:, None]]
    return shifted.movedim(-1, 1).contiguous()


class RepeatedSampler(Sampler[int]):
    """
    DeiT's repeated augmentation: in an epoch a third of the images (for 3 `repeats`), each drawn 3 times.

    The copies of an image go to different processes where there are several: among the batches that the processes
    take at the same time, process p gets the places p, p + processes, ... of the repeated order, as in DeiT. Every
    process makes the whole order; Accelerate hands out the batches. Order and length depend on the seed and the epoch
    alone.

    Args:
        data: the training set.
        repeats: how often an image is drawn.
        batch_size: of one process.
        processes: how many there are.
        seed: by default torch's initial seed, which `set_seed` sets.
        clock: (2,), where the seed and the epoch are written for others to see.
    """

    def __init__(
        self,
        data: Sized,
        repeats: int,
        batch_size: int = 1,
        processes: int = 1,
        seed: int | None = None,
        clock: torch.Tensor | None = None,
    ):
        self.data, self.repeats, self.batch_size, self.processes = data, repeats, batch_size, processes
        self.seed = (torch.initial_seed() if seed is None else seed) % 2**32
        self.clock = torch.zeros(2, dtype=torch.int64) if clock is None else clock
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """The next order is that of `epoch`; Trainer calls it."""
        self.epoch = epoch
        self.clock.copy_(torch.tensor([self.seed, epoch]))

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.data), generator=generator).repeat_interleave(self.repeats)[: len(self)]
        for together in order.split(self.batch_size * self.processes):
            for process in range(self.processes):
                yield from together[process :: self.processes].tolist()


def soft_target_cross_entropy(
    outputs, labels: torch.Tensor, num_items_in_batch=None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    Trainer's `compute_loss_func` for class indices `(batch,)` and for probabilities `(batch, classes)`.

    Args:
        outputs: with `logits` of shape `(batch, classes)`.
        num_items_in_batch: the number of entries of all `labels` of a step, as Trainer counts them, those of a
            gradient accumulation and of other processes included; by default those at hand.
        label_smoothing: share of a label that is spread over all classes.
    """
    if num_items_in_batch is None:
        return F.cross_entropy(outputs.logits, labels, label_smoothing=label_smoothing)
    examples = num_items_in_batch / (labels.shape[1] if labels.ndim == 2 else 1)
    return F.cross_entropy(outputs.logits, labels, reduction="sum", label_smoothing=label_smoothing) / examples


__all__ = [
    "Augmentation",
    "AugmentationArguments",
    "RepeatedSampler",
    "random_shift",
    "soft_target_cross_entropy",
]
