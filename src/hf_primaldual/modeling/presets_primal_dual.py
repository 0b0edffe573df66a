"""The three choices that make an attention, and the paper's presets of them."""

from typing import NamedTuple

from .transforms_primal_dual import TRANSFORMS


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


def choices_of(name: str) -> AttentionChoices | None:
    """
    What a name stands for; `None` for one that stands for nothing. Besides the presets there are names made like
    theirs of other transforms: `conv1d+bn`, or `my_file.Whitening+bn+sh` of one from outside of this package.
    """
    if name in PRESETS:
        return PRESETS[name]
    family, dash, rest = name.partition("-")
    is_prefixed = bool(dash) and family in ("linear", "sparse")
    transforms = (rest if is_prefixed else name).split("+")
    base = PRESETS[family if is_prefixed else "softmax"]
    if transforms[-1] == "sh":
        base = PRESETS[f"{family}-sh" if is_prefixed else "sh"]
        transforms.pop()
    if not transforms or not all(each in TRANSFORMS or "." in each for each in transforms):
        return None
    return base._replace(transforms=tuple(transforms))


def name_of(choices: AttentionChoices) -> str | None:
    """The name that [`choices_of`] reads as these choices; `None` where there is none."""
    names = [*choices.transforms, *["sh"] * ("downsampled" in choices.training_set)]
    families = ["linear"] * (choices.kernel == "linear") + ["sparse"] * ("sparse" in choices.training_set)
    name = "-".join([*families, *["+".join(names)] * bool(names)]) or "softmax"
    return name if choices_of(name) == choices else None


__all__ = ["PRESETS", "AttentionChoices", "choices_of", "name_of"]
