"""
The data side of DeiT's recipe (Touvron et al., 2021), with kornia's operations.

Everything is drawn from torch's global random state: equal seeds give equal images.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers.hf_argparser import HfArg

from .settings import refuse_below_one


@dataclass
class AugmentationArguments:
    """What is done to training images; by default nothing. `imagenet_deit_tiny.yaml` has DeiT's values."""

    crop_scale: list[float] | None = HfArg(default=None, help="Crop of this share of the area, such as 0.08 1.")
    random_shift: int = HfArg(default=0, help="Shift by up to so many pixels each way; black comes in.")
    horizontal_flip: float = HfArg(default=0.0, help="Probability of a flip.")
    rand_augment: list[int] | None = HfArg(default=None, help="RandAugment's operations, and strength of 1 to 29.")
    random_erasing: float = HfArg(default=0.0, help="Probability of a rectangle of noise.")
    mixup: float = HfArg(default=0.0, help="Mixup's alpha; 0 for none.")
    cutmix: float = HfArg(default=0.0, help="CutMix's alpha; 0 for none.")
    mixup_switch: float = HfArg(default=0.5, help="Share of batches with CutMix, where both are on.")
    repeated_augmentation: int = HfArg(default=1, help="How often an image is drawn, each time anew.")

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
        refuse_below_one(self, "repeated_augmentation")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that their labels are probabilities."""
        return self.mixup > 0 or self.cutmix > 0


class Augmentation:
    """
    What `args` say is done to the images of a training batch: `size` high and wide, of so many `classes`. Erased
    rectangles get noise of the `mean` and `std` of each channel.
    """

    def __init__(self, args: AugmentationArguments, size: int, classes: int, mean: list[float], std: list[float]):
        self.args, self.size, self.classes = args, size, classes
        self._mean, self._std = (torch.tensor(moment)[:, None, None] for moment in (mean, std))
        if not (args.crop_scale or args.horizontal_flip or args.rand_augment or args.random_erasing):
            return
        # Slow to import.
        from kornia import augmentation as kornia
        from kornia.augmentation.auto import RandAugment

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
        Images (batch, channels, size, size) of values from 0 to 1, and class indices (batch,), which become
        probabilities (batch, classes) where images are mixed.
        """
        if self.args.random_shift:
            images = random_shift(images, self.args.random_shift)
        if self.args.horizontal_flip:
            images = self._flip(images)
        if self.args.rand_augment:
            # One by one: kornia draws the operations once for a batch.
            images = torch.cat([self._rand_augment(image[None]) for image in images]).clamp(0, 1)
        if self.args.random_erasing:
            erased = self._erase(torch.ones_like(images)) == 0
            images = torch.where(erased, self._mean + self._std * torch.randn_like(images), images)
        return self._mix(images, labels) if self.args.mixes else (images, labels)

    def _mix(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixup or CutMix, one share for the batch."""
        from kornia import augmentation as kornia

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
