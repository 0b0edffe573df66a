"""
On long sequences, what is cheap to compute twice is not kept for the backward.

Attention-SH makes points of the layer's input, and joins groups of heads for the output projection. Both would be kept
for the projections' gradients besides the tensors that they are made of, which are kept anyway.
"""

from collections.abc import Callable

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

# From so many tokens on. On shorter sequences memory is not what ends first, and plain autograd makes fewer calls.
LONG = 2048


def recomputed_in_backward(function: Callable, *states: torch.Tensor, saves: bool = True):
    """
    `function(*states)`, of which the backward computes again what it needs from `states`.

    Args:
        function (`Callable`): of tensors whose second axis is the tokens; it may call modules with parameters.
        saves (`bool`): whether anything would be kept besides `states`.

    Returns:
        What the function returns. It is called plainly on short sequences, where no backward comes, in a compiled
        graph, which decides for itself what it computes twice, and under transforms of `torch.func`, which know no
        saved tensors.
    """
    if not saves or not is_long(states[0]) or not _are_allowed():
        return function(*states)
    return checkpoint(function, *states, use_reentrant=False)


def is_long(states: torch.Tensor) -> bool:
    """Whether states of shape `(batch, tokens, ...)` are long enough to save memory on, and a backward comes."""
    # The length is looked at last: in an exported graph it would be fixed by that.
    return not torch.compiler.is_compiling() and torch.is_grad_enabled() and states.shape[1] >= LONG


def _are_allowed() -> bool:
    """Whether saved tensors may be replaced."""
    try:
        with saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
            return True
    except RuntimeError:
        return False


__all__ = ["LONG", "is_long", "recomputed_in_backward"]
