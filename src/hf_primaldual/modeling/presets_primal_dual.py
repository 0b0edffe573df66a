"""The three choices that make an attention, and the paper's presets of them."""

from typing import NamedTuple


class AttentionChoices(NamedTuple):
    """An attention as the paper derives it: a kernel, the transforms T of queries and keys, and a training set."""

    kernel: str
    transforms: tuple[str, ...]
    training_set: str


PRESETS = {
    "softmax": AttentionChoices("softmax", (), "all"),
    "bn": AttentionChoices("softmax", ("bn",), "all"),
    "sh": AttentionChoices("softmax", (), "downsampled"),
    "bn+sh": AttentionChoices("softmax", ("bn",), "downsampled"),
    "linear": AttentionChoices("linear", (), "all"),
    "linear-bn": AttentionChoices("linear", ("bn",), "all"),
    "linear-sh": AttentionChoices("linear", (), "downsampled"),
    "linear-bn+sh": AttentionChoices("linear", ("bn",), "downsampled"),
    "sparse": AttentionChoices("softmax", (), "sparse"),
    "sparse-bn": AttentionChoices("softmax", ("bn",), "sparse"),
    "sparse-sh": AttentionChoices("softmax", (), "sparse+downsampled"),
    "sparse-bn+sh": AttentionChoices("softmax", ("bn",), "sparse+downsampled"),
    "conv1d": AttentionChoices("softmax", ("conv1d",), "all"),
    "conv2d": AttentionChoices("softmax", ("conv2d",), "all"),
    "conv2d+bn": AttentionChoices("softmax", ("conv2d", "bn"), "all"),
}


__all__ = ["PRESETS", "AttentionChoices"]
