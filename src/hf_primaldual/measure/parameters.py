"""The number of parameters of a model."""

from torch import nn


def count_parameters(model: nn.Module, trainable_only: bool = False) -> int:
    """Number of parameters of `model`, shared ones counted once.

    Args:
        model: Any module.
        trainable_only: Leave out the parameters that require no gradient.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)
