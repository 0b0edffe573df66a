"""
On long sequences, what is cheap to compute twice is not kept for the backward.

Attention-SH makes points of the layer's input, and joins groups of heads for the output projection; Attention-BN
centres the keys that it scales. All would be kept besides tensors from which they are easily had, kept anyway.
"""

from collections.abc import Callable

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

# From so many tokens on. On shorter sequences memory is not what ends first, and plain autograd makes fewer calls.
LONG = 2048


def recomputed_in_backward(function: Callable, *states: torch.Tensor, saves: bool = True):
    """
    `function(*states)`, of which the backward computes again what it needs from `states`, if those [`are_long`].

    Args:
        function (`Callable`): of tensors whose second axis is the tokens; it may call modules with parameters.
        saves (`bool`): whether anything would be kept besides `states`.
    """
    if not saves or not are_long(states[0]):
        return function(*states)
    return checkpoint(function, *states, use_reentrant=False)


def kept_scaled(shape: torch.Size, scaled: list[torch.Tensor]) -> saved_tensors_hooks:
    """
    A context in which nothing of `shape` is kept: a backward takes `scaled[0] / scaled[1]` in its place, the states
    scaled and their factor, which are put into the list, detached, when they are there.
    """
    return saved_tensors_hooks(
        lambda tensor: scaled if tensor.shape == shape and tensor.is_floating_point() else tensor,
        lambda kept: scaled[0] / scaled[1] if kept is scaled else kept,
    )


def are_long(states: torch.Tensor) -> bool:
    """
    Whether states of shape `(batch, tokens, ...)` are long enough to save memory on, and a backward comes for it. A
    compiled graph decides for itself what it computes twice, and transforms of `torch.func` know no saved tensors.
    """
    # The length is looked at after the compiler: in an exported graph it would be fixed by that.
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or states.shape[1] < LONG:
        return False
    try:
        with saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
            return True
    except RuntimeError:
        return False


__all__ = ["LONG", "are_long", "kept_scaled", "recomputed_in_backward"]
