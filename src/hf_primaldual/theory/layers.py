"""Looking at the attention layers of a model while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def attention_layers(model: nn.Module) -> list[Any]:
    """The layers of `PrimalDualAttention` of a model, in its order; a `ValueError` where it has none."""
    # By name: a checkpoint loaded with `trust_remote_code` brings its own class.
    layers = [module for module in model.modules() if type(module).__name__ == "PrimalDualAttention"]
    if not layers:
        raise ValueError(f"`model` must have layers of PrimalDualAttention, got a {type(model).__name__} without one.")
    return layers


@contextmanager
def evaluating(model: nn.Module) -> Iterator[list]:
    """Evaluation mode without gradients; afterwards all modes are as before, and the hooks in the list are removed."""
    training = {module: module.training for module in model.modules()}
    hooks: list = []
    model.eval()
    try:
        with torch.no_grad():
            yield hooks
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode


def mask_of(args: tuple, kwargs: dict) -> torch.Tensor | None:
    """The `attention_mask` that a hook sees an attention layer called with."""
    return args[1] if len(args) > 1 else kwargs.get("attention_mask")
