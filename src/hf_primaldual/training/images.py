"""Images as a task: their settings, their preparation, and the vision transformer that learns them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow
from transformers import BaseImageProcessor, ViTImageProcessorPil
from transformers.hf_argparser import HfArg
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification
from hf_primaldual.data import decode_image, load_images
from hf_primaldual.data.sources import described
from hf_primaldual.data.splits import cut_validation, draw

from .arguments import AttentionArguments, ComparisonArguments
from .augmentation import Augmentation, AugmentationArguments
from .losses import soft_target_cross_entropy
from .samplers import RepeatedSampler
from .settings import refuse_below_one
from .sources import SourceArguments, refuse_given
from .task import EXAMPLE_ID, Task, with_ids

# Up to this many pixels a side, images are decoded once and kept as raw bytes: decoding would take longer than a step.
_SMALL = 64
# Grey images are read as colour, as pipelines of transformers hand them over.
_CHANNELS = 3


# Flags of a folder or a data set of the Hub.
_OF_THE_HUB = (
    "dataset_config", "revision", "test_split", "streaming", "image_column", "label_column", "skip_unreadable",
)  # fmt: skip


@dataclass
class ImageDataArguments(AugmentationArguments, SourceArguments):
    """Which images are trained on, and what is done to them."""

    dataset: str = HfArg(default="digits", help="digits, fashion-mnist, a folder of images or parquet, or a Hub id.")
    data_folder: str | None = HfArg(default=None, help="Folder of Fashion-MNIST's files. Default: see `make data`.")
    streaming: bool = HfArg(default=False, help="Read while training, without a cache; needs --max_steps.")
    shuffle_buffer: int = HfArg(default=10_000, help="Images among which a stream draws the next.")
    image_column: str | None = HfArg(default=None, help="Column of images, if it is not clear.")
    label_column: str | None = HfArg(default=None, help="Column of classes, if it is not clear.")
    skip_unreadable: bool = HfArg(default=False, help="Leave out images that cannot be read, and name them.")
    train_examples: int | None = HfArg(default=None, help="Draw so many training images, validation included.")

    def __post_init__(self):
        AugmentationArguments.__post_init__(self)
        SourceArguments.__post_init__(self)
        if self.streaming and self.train_examples is not None:
            raise ValueError("`train_examples` draws by class, which a stream cannot; leave one of them out.")
        if self.streaming and self.repeated_augmentation > 1:
            raise ValueError("`repeated_augmentation` draws from the whole training set, not from a stream.")


@dataclass
class ImageModelArguments(AttentionArguments):
    """The vision transformer, by default DeiT-tiny."""

    image_size: int = HfArg(default=224, help="Height and width the images are brought to.")
    patch_size: int = HfArg(default=16, help="Height and width of a patch.")
    num_channels: int = HfArg(default=3, help="3: grey images are read as colour, as by pipelines of transformers.")
    hidden_size: int = HfArg(default=192, help="Width.")
    num_hidden_layers: int = HfArg(default=12, help="Layers.")
    num_attention_heads: int = HfArg(default=3, help="Heads.")
    intermediate_size: int = HfArg(default=768, help="Width inside the feed-forward blocks.")
    dropout: float = HfArg(default=0.0, help="Dropout of attention maps and sublayers.")
    drop_path_rate: float = HfArg(default=0.0, help="Stochastic depth of the last layer.")
    pooling: str = HfArg(default="cls", help="Input of the classifier, cls or mean.")
    distillation_token: bool = HfArg(default=False, help="DeiT's second token.")
    distillation_head: bool = HfArg(default=False, help="A classifier of that token too.")
    initializer_range: float = HfArg(default=0.02, help="Deviation of the initial weights.")

    def __post_init__(self):
        super().__post_init__()
        refuse_below_one(self, "image_size", "patch_size")
        if self.num_channels != 3:
            raise ValueError(
                f"`num_channels` must be 3, got {self.num_channels}: pipelines of transformers make all images "
                "colour, so grey ones are trained on as colour too."
            )


@dataclass
class ImageTrainingArguments(ComparisonArguments):
    """The optimizer of DeiT; the rest of its recipe is in `imagenet_deit_tiny.yaml`."""

    output_dir: str = HfArg(default="outputs/images", help="Folder of this run and no other.")
    learning_rate: float = HfArg(default=5e-4, help="Peak learning rate.")
    weight_decay: float = HfArg(default=0.05, help="AdamW's weight decay.")
    max_grad_norm: float = HfArg(default=1.0, help="Gradients are clipped to this norm; 0 for not.")
    per_device_train_batch_size: int = HfArg(default=128, help="Images per step.")
    per_device_eval_batch_size: int = HfArg(default=256, help="Images per evaluation step.")
    lr_scheduler_type: str = HfArg(default="cosine", help="Schedule of the learning rate.")
    efficiency_tokens: list[int] = HfArg(
        default_factory=list, help="Patches, square numbers, at which cost is measured besides the data's."
    )


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
    augmentation: Augmentation | None = None
    clock: torch.Tensor | None = None
    process: int = 0

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.augmentation is None or self.clock is None:
            return self._batch(examples)
        ids = (int(example[EXAMPLE_ID]) for example in examples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((*self.clock.tolist(), self.process, *ids)) % 2**63)
            return self._batch(examples)

    def _batch(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([int(example["labels"]) for example in examples])
        if "pixels" in examples[0]:
            joined = bytearray(b"".join(example["pixels"] for example in examples))
            shape = (len(examples), _CHANNELS, self.size, self.size)
            images = torch.frombuffer(joined, dtype=torch.uint8).view(shape) / 255
        else:
            images = torch.stack([self._image(example["image"]) for example in examples])
        if self.augmentation:
            images, labels = self.augmentation(images, labels)
        mean, std = (
            torch.tensor(moment)[:, None, None] for moment in (self.processor.image_mean, self.processor.image_std)
        )
        return {"pixel_values": (images - mean) / std, "labels": labels}

    def _image(self, encoded: dict[str, Any]) -> torch.Tensor:
        """(3, size, size), values from 0 to 1."""
        image, cropped = decode_image(encoded), self.augmentation is not None and self.augmentation.args.crop_scale
        if not cropped:
            image = image.resize((self.size, self.size), self.processor.resample)
        pixels = torch.from_numpy(_channels_first(image)) / 255
        return self.augmentation.crop(pixels) if cropped else pixels


class ImageTask(Task):
    """Images with classes."""

    kind = "image-classification"
    model_class = PrimalDualViTForImageClassification

    def set_tokens(self, config: PrimalDualViTConfig, tokens: int) -> None:
        """See `Task`: an image's tokens are its patches, a square number of them."""
        side = round(tokens**0.5)
        if side**2 != tokens:
            raise ValueError(f"`efficiency_tokens` of images must be square numbers of patches, got {tokens}.")
        config.image_size = side * config.patch_size

    def measuring_batch(self, batch: int, tokens: int) -> dict[str, torch.Tensor]:
        """See `Task`: validation images, resized to `tokens` patches."""
        inputs = super().measuring_batch(batch, tokens)
        side = round(tokens**0.5) * self.model_args.patch_size
        pixels = torch.nn.functional.interpolate(inputs["pixel_values"], size=(side, side), mode="bilinear")
        return {**inputs, "pixel_values": pixels}


Loader = Callable[[ImageDataArguments], tuple[DatasetDict, dict[str, Any]]]


def image_task(
    data_args: ImageDataArguments,
    model_args: ImageModelArguments,
    args: ImageTrainingArguments,
    sources: Mapping[str, Loader] | None = None,
) -> ImageTask:
    """
    The task that the arguments name.

    Images of up to 64 x 64 are decoded and resized once, into the cache of `datasets`, and normalized by the mean and
    deviation of the training images; larger ones and streams are decoded in the collator, and normalized by
    ImageNet's.

    `sources` are more data sets than the digits, by the names that `--dataset` has for them.
    """
    if data_args.streaming and args.max_steps <= 0:
        raise ValueError("`streaming` needs `max_steps`: a stream does not tell how many images an epoch has.")
    splits, source = _load(data_args, {"digits": _digits, **(sources or {})})
    if data_args.train_examples is not None:
        official = len(splits["train"])
        splits["train"] = draw(splits["train"], data_args.train_examples)
        source["subset"] = f"{len(splits['train'])} of {official} images, drawn by class with seed 0"
    if "validation" not in splits:
        splits = cut_validation(splits, data_args.validation_share)

    size = model_args.image_size
    class_names = splits["train"].features["labels"].names
    # On Pillow, so that images are the same with and without torchvision; saved under the name of both.
    processor = ViTImageProcessorPil(size={"height": size, "width": size})
    processor.do_convert_rgb = True
    # Encoded, so that a broken image is met where its name is known.
    splits = type(splits)({name: split.cast_column("image", Image(decode=False)) for name, split in splits.items()})
    if size <= _SMALL and not data_args.streaming and data_args.crop_scale is None:
        splits = DatasetDict({name: _packed(split, size, int(processor.resample)) for name, split in splits.items()})
        processor.image_mean, processor.image_std = _moments(splits["train"])
    else:
        processor.image_mean, processor.image_std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    splits = with_ids(splits)

    collate, sampler = ImageCollator(processor, size), None
    augmentation = Augmentation(data_args, size, len(class_names), processor.image_mean, processor.image_std)
    collate_train = replace(collate, augmentation=augmentation)
    if data_args.streaming:
        splits["train"] = splits["train"].shuffle(seed=args.seeds[0], buffer_size=data_args.shuffle_buffer)
    else:
        # In shared memory, where the workers of a loader see it too.
        clock = torch.zeros(2, dtype=torch.int64).share_memory_()
        collate_train = replace(collate_train, clock=clock, process=args.process_index)
        sampler = partial(
            RepeatedSampler,
            repeats=data_args.repeated_augmentation,
            batch_size=args.train_batch_size,
            processes=args.world_size,
            clock=clock,
        )
    compute_loss = None
    if data_args.mixes:
        compute_loss = partial(soft_target_cross_entropy, label_smoothing=args.label_smoothing_factor)
    settings = {name: getattr(data_args, name) for name in AugmentationArguments.__dataclass_fields__}
    settings |= {"train_examples": data_args.train_examples, "validation_share": data_args.validation_share}
    given = {"test_share": data_args.test_share, "skip_unreadable": data_args.skip_unreadable}
    settings |= {name: value for name, value in given.items() if value}
    patches = (size // model_args.patch_size) ** 2
    return ImageTask(
        splits=splits,
        source={**source, "channels": _CHANNELS, "image_size": [size, size]},
        processor=processor,
        collate=collate,
        collate_train=collate_train,
        lengths=(patches, patches),
        model_args=model_args,
        settings=settings,
        train_sampler=sampler,
        compute_loss=compute_loss,
    )


def _load(args: ImageDataArguments, sources: Mapping[str, Loader]) -> tuple[Any, dict[str, Any]]:
    if args.dataset in sources:
        refuse_given(args, (*_OF_THE_HUB, "test_share"), "a folder or a data set of the Hub")
        splits, source = sources[args.dataset](args)
    else:
        refuse_given(args, ("data_folder",), ", ".join(sources))
        splits = load_images(
            args.dataset,
            config=args.dataset_config,
            streaming=args.streaming,
            validation_share=args.validation_share,
            test_share=args.test_share,
            test_split=args.test_split,
            image_column=args.image_column,
            label_column=args.label_column,
            skip_unreadable=args.skip_unreadable,
            revision=args.revision,
        )
        source = described(args.dataset, args.dataset_config, args.revision) | {"sha256": {}, "licence": None}
    return splits, source if args.name is None else {**source, "name": args.name}


def _digits(args: ImageDataArguments) -> tuple[DatasetDict, dict[str, Any]]:
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

    def pixels(row: dict[str, Any]) -> dict[str, bytes]:
        image = decode_image(row["image"]).resize((size, size), resample)
        return {"pixels": _channels_first(image).tobytes()}

    features = Features({"pixels": Value("binary"), "labels": split.features["labels"]})
    images = split.select_columns(["image", "labels"])
    return images.map(pixels, remove_columns="image", features=features, desc="decoding")


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
