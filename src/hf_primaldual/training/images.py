"""Images as a task: their preparation, and the vision transformer that learns them."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDatasetDict, Value
from PIL import Image as Pillow
from transformers import BaseImageProcessor, ViTImageProcessorPil

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification
from hf_primaldual.data import decode_image, describe_fashion_mnist, load_fashion_mnist, load_images
from hf_primaldual.data.splits import cut_validation, draw

from .arguments import ComparisonArguments
from .augmentation import Augmentation, AugmentationArguments, RepeatedSampler, soft_target_cross_entropy
from .distillation import distillation_loss
from .image_arguments import ImageDataArguments, ImageModelArguments
from .task import EXAMPLE_ID, Task, with_ids

# Up to this many pixels a side, images are decoded once and kept as raw bytes: decoding would take longer than a step.
_SMALL = 64
# Grey images are read as colour, as pipelines of transformers hand them over.
_CHANNELS = 3


@dataclass
class ImageCollator:
    """
    Examples of an `image`, or of its raw `pixels`, and of a `labels` column to a batch for the model.

    Without `augmentation` images are resized as the processor does it and labels stay class indices; with it they are
    augmented, and labels are probabilities (batch, classes) where the recipe makes them so.

    What is drawn for a batch follows from `clock`, the run's seed and the epoch that `RepeatedSampler` writes there,
    from the `process` and from the examples: Accelerate prepares a batch ahead and workers have random states of
    their own, so a resumed run could not repeat draws from the global state. Without a clock they come from there.
    """

    processor: BaseImageProcessor
    size: int
    classes: int
    augmentation: AugmentationArguments | None = None
    clock: torch.Tensor | None = None
    process: int = 0

    def __post_init__(self):
        self._mean = torch.tensor(self.processor.image_mean)
        self._std = torch.tensor(self.processor.image_std)
        moments = self.processor.image_mean, self.processor.image_std
        args = self.augmentation
        self._augment = None if args is None else Augmentation(args, self.size, self.classes, *moments)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.augmentation is None or self.clock is None:
            return self._batch(examples)
        ids = (int(example[EXAMPLE_ID]) for example in examples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((*self.clock.tolist(), self.process, *ids)) % 2**63)
            return self._batch(examples)

    def _batch(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([int(example["labels"]) for example in examples])
        images = self._images(examples)
        if self._augment:
            images, labels = self._augment(images, labels)
        images = (images - self._mean[:, None, None]) / self._std[:, None, None]
        return {"pixel_values": images, "labels": labels}

    def _images(self, examples: list[dict[str, Any]]) -> torch.Tensor:
        """(batch, 3, size, size), values from 0 to 1."""
        crop = self.augmentation.crop_scale if self.augmentation else None
        if "pixels" in examples[0]:
            joined = bytearray(b"".join(example["pixels"] for example in examples))
            shape = (len(examples), _CHANNELS, self.size, self.size)
            images = torch.frombuffer(joined, dtype=torch.uint8).view(shape) / 255
            if crop is None:
                return images
            return torch.stack([self._augment.crop(image) for image in images])
        images = []
        for example in examples:
            image = decode_image(example["image"])
            if crop is None:
                image = image.resize((self.size, self.size), self.processor.resample)
            pixels = torch.from_numpy(_channels_first(image)) / 255
            images.append(pixels if crop is None else self._augment.crop(pixels))
        return torch.stack(images)


@dataclass(kw_only=True)
class ImageTask(Task):
    """Images with classes."""

    model_args: ImageModelArguments

    kind = "image-classification"
    model_class = PrimalDualViTForImageClassification

    def config(self, attention: str, **changes: Any) -> PrimalDualViTConfig:
        """See `Task`."""
        fields = self.model_args.config_fields(attention, **changes)
        del fields["teacher"]
        return PrimalDualViTConfig(**self.labels, **fields)

    def set_tokens(self, config: PrimalDualViTConfig, tokens: int) -> None:
        """See `Task`: an image's tokens are its patches, a square number of them."""
        side = round(tokens**0.5)
        if side**2 != tokens:
            raise ValueError(f"`efficiency_tokens` of images must be square numbers of patches, got {tokens}.")
        config.image_size = side * config.patch_size

    def measuring_batch(self, batch: int, tokens: int) -> dict[str, torch.Tensor]:
        """See `Task`: validation images, resized to `tokens` patches."""
        examples = list(self.splits["validation"].take(batch))
        examples = [examples[index % len(examples)] for index in range(batch)]
        inputs = self.collate(examples)
        side = round(tokens**0.5) * self.model_args.patch_size
        pixels = torch.nn.functional.interpolate(inputs["pixel_values"], size=(side, side), mode="bilinear")
        return {**inputs, "pixel_values": pixels}

    @property
    def sizes(self) -> dict[str, int | None]:
        """See `Task`; None for a stream, whose images are not counted."""
        return {name: len(split) if hasattr(split, "__len__") else None for name, split in self.splits.items()}


def image_task(data_args: ImageDataArguments, model_args: ImageModelArguments, args: ComparisonArguments) -> ImageTask:
    """
    The task that the arguments name.

    Raises:
        FileNotFoundError, ValueError: see `load_fashion_mnist`, `load_images`, `cut_validation` and `draw`; and for a
            stream without `max_steps`.
    """
    if data_args.streaming and args.max_steps <= 0:
        raise ValueError("`streaming` needs `max_steps`: a stream does not tell how many images an epoch has.")
    splits, source = _load(data_args)
    if data_args.name is not None:
        source["name"] = data_args.name
    if data_args.train_examples is not None:
        official = len(splits["train"])
        splits["train"] = draw(splits["train"], data_args.train_examples)
        source["subset"] = f"{len(splits['train'])} of {official} images, drawn by class with seed 0"
    if "validation" not in splits:
        splits = cut_validation(splits, data_args.validation_share)
    task = prepare_images(splits, source, data_args, model_args)
    task.settings |= {"train_examples": data_args.train_examples, "validation_share": data_args.validation_share}
    smoothing = args.label_smoothing_factor
    if model_args.teacher is not None:
        task.compute_loss = distillation_loss(model_args.teacher, len(task.class_names), task.processor, smoothing)
    elif data_args.mixes:
        task.compute_loss = partial(soft_target_cross_entropy, label_smoothing=smoothing)
    if data_args.streaming:
        task.splits["train"] = task.splits["train"].shuffle(seed=args.seeds[0], buffer_size=data_args.shuffle_buffer)
    else:
        # In shared memory, where the workers of a loader see it too.
        clock = torch.zeros(2, dtype=torch.int64).share_memory_()
        task.collate_train = replace(task.collate_train, clock=clock, process=args.process_index)
        task.train_sampler = partial(
            RepeatedSampler,
            repeats=data_args.repeated_augmentation,
            batch_size=args.train_batch_size,
            processes=args.world_size,
            clock=clock,
        )
    return task


def prepare_images(
    splits: DatasetDict | IterableDatasetDict,
    source: dict[str, Any],
    augmentation: AugmentationArguments,
    model_args: ImageModelArguments,
) -> ImageTask:
    """
    The task of images that are already split.

    Images of up to 64 x 64 are decoded and resized once, into the cache of `datasets`, and normalized by the mean and
    deviation of the training images; larger ones and streams are decoded in the collator, and normalized by
    ImageNet's.

    Args:
        splits: `train`, `validation` and `test` of `image` and `labels`, a `ClassLabel`.
        source: what `results.json` keeps of the data; see `Task`.
        augmentation: of training images.

    Raises:
        ValueError: an image cannot be read; see `decode_image`.
    """
    size = model_args.image_size
    class_names = splits["train"].features["labels"].names
    # On Pillow, so that images are the same with and without torchvision; saved under the name of both.
    processor = ViTImageProcessorPil(size={"height": size, "width": size})
    # Encoded, so that a broken image is met where its name is known.
    splits = type(splits)({name: split.cast_column("image", Image(decode=False)) for name, split in splits.items()})
    if size <= _SMALL and isinstance(splits["train"], Dataset) and augmentation.crop_scale is None:
        splits = DatasetDict({name: _packed(split, size, int(processor.resample)) for name, split in splits.items()})
        processor.image_mean, processor.image_std = _moments(splits["train"])
    else:
        processor.image_mean, processor.image_std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    processor.do_convert_rgb = True
    collate = ImageCollator(processor, size, len(class_names))
    patches = (size // model_args.patch_size) ** 2
    return ImageTask(
        splits=with_ids(splits),
        class_names=class_names,
        source={**source, "channels": _CHANNELS, "image_size": [size, size]},
        processor=processor,
        collate=collate,
        collate_train=replace(collate, augmentation=augmentation),
        compute_loss=soft_target_cross_entropy if augmentation.mixes else None,
        lengths=(patches, patches),
        settings={name: getattr(augmentation, name) for name in AugmentationArguments.__dataclass_fields__},
        model_args=model_args,
    )


def _load(args: ImageDataArguments) -> tuple[Any, dict[str, Any]]:
    if args.dataset == "fashion-mnist":
        return load_fashion_mnist(args.data_folder), describe_fashion_mnist(args.data_folder)
    if args.dataset == "digits":
        return _digits()
    splits = load_images(
        args.dataset,
        streaming=args.streaming,
        validation_share=args.validation_share,
        test_split=args.test_split,
        image_column=args.image_column,
        label_column=args.label_column,
        revision=args.revision,
    )
    name = args.dataset.rstrip("/").rsplit("/", 1)[-1]
    revision = f", revision {args.revision}" if args.revision else ""
    described = {"name": name, "source": f"images, {name}{revision}", "sha256": {}, "licence": None}
    return splits, described if Path(args.dataset).exists() else {**described, "hub_id": args.dataset}


def _digits() -> tuple[DatasetDict, dict[str, Any]]:
    """scikit-learn's 1797 digits of 8 x 8 pixels, the last fifth of them to test on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    features = Features({"image": Image(), "labels": ClassLabel(names=[str(name) for name in digits.target_names])})
    images = [Pillow.fromarray((image * 255 / 16).astype(np.uint8)) for image in digits.images]
    data = Dataset.from_dict({"image": images, "labels": digits.target}, features=features)
    cut = data.train_test_split(test_size=0.2, shuffle=False)
    source = {"name": "digits", "source": "scikit-learn's load_digits", "sha256": {}, "licence": "BSD-3-Clause"}
    return DatasetDict(cut), source


def _packed(split: Dataset, size: int, resample: int) -> Dataset:
    """The split with a column `pixels`, the bytes of (3, size, size), in place of the images."""
    features = Features({"pixels": Value("binary"), "labels": split.features["labels"]})
    kept = split.select_columns(["image", "labels"])
    return kept.map(
        _pixels,
        fn_kwargs={"size": size, "resample": resample},
        remove_columns=["image"],
        features=features,
        desc="decoding",
    )


def _pixels(row: dict[str, Any], size: int, resample: int) -> dict[str, bytes]:
    image = decode_image(row["image"])
    if image.size != (size, size):
        image = image.resize((size, size), resample)
    return {"pixels": _channels_first(image).tobytes()}


def _channels_first(image: Pillow.Image) -> np.ndarray:
    """(3, height, width)"""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _moments(train: Dataset) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel over the first images, values from 0 to 1."""
    first = train.take(min(len(train), 10_000))["pixels"]
    pixels = np.stack([np.frombuffer(image, np.uint8).reshape(_CHANNELS, -1) for image in first]) / 255
    std = pixels.std((0, 2))
    # A channel that is the same everywhere is only centred.
    return pixels.mean((0, 2)).tolist(), np.where(std > 0, std, 1.0).tolist()


__all__ = [
    "ImageCollator",
    "ImageTask",
    "image_task",
    "prepare_images",
]
