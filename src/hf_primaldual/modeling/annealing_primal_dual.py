"""How far a converted layer has moved from softmax attention to its preset."""

import copy
import warnings

import torch
from torch import nn
from transformers import initialization as init

from .configuration_primal_dual import PrimalDualConfig

# What 1 is counted in: a whole number survives half precision.
ARRIVED = 1_000_000


class Annealing(nn.Module):
    """
    The progress of a conversion, from 0 for softmax attention to 1 for the preset, in millionths.

    A buffer: whoever saves or restores the weights has it, be it Trainer's best checkpoint or an adapter that names
    this module in its `modules_to_save`. It is read and moved by calling the module: of several adapters each has its
    own, and a call reaches that of the active one.
    """

    # PEFT moves it along where it merges what is no LoRA.
    weight = None

    def __init__(self):
        super().__init__()
        self.register_buffer("millionths", torch.zeros((), dtype=torch.int64))

    def reset_parameters(self):
        init.zeros_(self.millionths)

    @torch.no_grad()
    def set(self, progress: float) -> None:
        """Moves to `progress`, cut to 0 to 1."""
        self.millionths.fill_(round(min(max(progress, 0.0), 1.0) * ARRIVED))

    def forward(self, progress: float | None = None) -> float | None:
        """The progress, after a move to `progress` if given; `None` on the meta device, which holds no numbers."""
        if progress is not None:
            self.set(progress)
        return None if self.millionths.is_meta else self.millionths.item() / ARRIVED


def at_progress(config: PrimalDualConfig, progress: float) -> PrimalDualConfig:
    """
    The configuration of a layer between softmax attention, at 0, and the one given, at 1.

    Beta and the power of the deviation grow linearly. Factors grow, and numbers of points shrink from as many as a
    model takes at most, by equal ratios, rounded to whole tokens.
    """
    if progress == 1:
        return config
    moved = copy.copy(config)
    _, transforms, training_set = config.choices
    if "bn" in transforms:
        moved.bn_beta = progress * config.bn_beta
        moved.bn_scaling = progress * config.bn_scaling
    if "downsampled" not in training_set:
        return moved
    if config.head_points is None:
        moved.head_scales = [max(round(scale**progress), 1) for scale in config.resolved_head_scales()]
        return moved
    longest = config.max_position_embeddings if config.grid_size is None else config.grid_size[0] * config.grid_size[1]
    moved.head_points = [
        max(round(longest * (min(points, longest) / longest) ** progress), 1)
        for points in config.resolved_head_points()
    ]
    return moved


def words_of(progress: float | None) -> str:
    """What is said of a conversion that is under way."""
    if progress is None:
        return "on the way from softmax attention"
    if progress == 0:
        return "still softmax attention"
    return "arrived" if progress == 1 else f"{progress:.1%} of the way from softmax attention"


def progress_of(model: nn.Module) -> float | None:
    """How far a model has come; `None` for one that is no conversion."""
    layers = (getattr(module, "annealing", None) for module in model.modules())
    return next((annealing() for annealing in layers if isinstance(annealing, nn.Module)), None)


def warn_unfinished(model: nn.Module, what: str) -> None:
    """Warns where a model is `what`, such as saved, under the name of an attention that it has not arrived at."""
    progress = progress_of(model)
    if progress is not None and progress < 1:
        warnings.warn(
            f"{type(model).__name__} is {what} as `attention={model.config.attention!r}` but is {words_of(progress)}: "
            "train it with `AnnealToTarget`, or move it by `hf_primaldual.integration.annealing.anneal(model, 1.0)`.",
            stacklevel=3,
        )


__all__ = ["ARRIVED", "Annealing", "at_progress", "progress_of", "warn_unfinished", "words_of"]
