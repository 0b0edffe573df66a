"""The transforms T of a primal layer f(x) = W Phi(T(x)) / h(T(x)): what becomes of queries and keys."""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from transformers import initialization as init

# A transform of somebody's own may take the statistics of its tokens from here.
from .batch_norm_primal_dual import KeyBatchNorm, token_statistics
from .head_groups_primal_dual import take
from .padding_primal_dual import without_padding

if TYPE_CHECKING:
    from .configuration_primal_dual import PrimalDualConfig


class Transform(Protocol):
    """
    What a transform T is: a module that takes a `PrimalDualConfig`, and in its forward

    - query (`torch.Tensor` of shape `(batch, tokens, len(heads) * head_dim)`): the heads side by side;
    - key (`torch.Tensor` of shape `(batch, keys, len(heads) * head_dim)`): likewise;
    - query_mask, key_mask (`torch.BoolTensor` of shape `(batch, tokens)` and `(batch, keys)`, or `None`): true for the
      tokens that count;
    - heads (`list[int]`): which of the layer's heads these are;
    - grid_size (`tuple[int, int]` or `None`): height and width in patches of these images, where they are not the
      configuration's;

    and returns the transformed queries and keys, of the same shapes.
    """

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        query_mask: torch.Tensor | None,
        key_mask: torch.Tensor | None,
        heads: list[int],
        grid_size: tuple[int, int] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class Filters(nn.Module):
    """
    Filters of odd size in one or two dimensions, one for each channel that they are applied to, padded to keep sizes.

    They start as the identity, so that training starts from softmax attention (our choice).
    """

    def __init__(self, channels: int, size: int, dimensions: int):
        super().__init__()
        self.padding = size // 2
        self.weight = nn.Parameter(torch.empty(channels, 1, *[size] * dimensions))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.dirac_(self.weight, groups=len(self.weight))


class SequenceConvolution(Filters):
    """
    Attention-Conv1D: queries and keys are convolved along the sequence, channel by channel, with the same filters.

    Args:
        config (`PrimalDualConfig`): reads `conv_kernel_size`.
    """

    def __init__(self, config: "PrimalDualConfig"):
        super().__init__(config.hidden_size, config.conv_kernel_size, dimensions=1)
        self.head_dim = config.head_dim

    def forward(self, query, key, query_mask, key_mask, heads, grid_size=None):
        """T of queries and keys; arguments as for [`Transform`]."""
        weight = take(self.weight.unflatten(0, (-1, self.head_dim)), heads).flatten(0, 1)

        def convolve(states, mask):
            channels = without_padding(states, mask).transpose(1, 2)
            convolved = nn.functional.conv1d(channels, weight, padding=self.padding, groups=len(weight))
            # With a token's channels apart, torch's fused attention would form the matrix of all pairs.
            return convolved.transpose(1, 2).contiguous()

        return convolve(query, query_mask), convolve(key, key_mask)


class VectorConvolution(Filters):
    """
    Attention-Conv2D (Definition 3): each query and key vector of a head, reshaped to a two-dimensional map as square
    as its size allows, is convolved with the head's filter, and flattened again.

    Args:
        config (`PrimalDualConfig`): reads `conv_kernel_size`.

    Raises:
        ValueError: when a head's width has no two-dimensional shape.
    """

    def __init__(self, config: "PrimalDualConfig"):
        super().__init__(config.num_attention_heads, config.conv_kernel_size, dimensions=2)
        self.shape = map_shape(config.head_dim)

    def forward(self, query, key, query_mask, key_mask, heads, grid_size=None):
        """T of queries and keys; arguments as for [`Transform`]."""
        weight = take(self.weight, heads)

        def convolve(states):
            maps = states.reshape(-1, len(heads), *self.shape)
            return nn.functional.conv2d(maps, weight, padding=self.padding, groups=len(heads)).reshape(states.shape)

        return convolve(query), convolve(key)


class GridConvolution(Filters):
    """
    The second reading of Attention-Conv2D: queries and keys are convolved over the image's grid of patches, channel by
    channel, with the same filters; prefix tokens (CLS) pass as they are.

    Args:
        config (`PrimalDualConfig`): reads `conv_kernel_size`, `grid_size` and `num_prefix_tokens`.
    """

    def __init__(self, config: "PrimalDualConfig"):
        super().__init__(config.hidden_size, config.conv_kernel_size, dimensions=2)
        self.head_dim = config.head_dim
        self.grid_size = tuple(config.grid_size)
        self.prefix = config.num_prefix_tokens

    def forward(self, query, key, query_mask, key_mask, heads, grid_size=None):
        """
        T of queries and keys; arguments as for [`Transform`].

        Raises:
            ValueError: when there are not as many tokens as the prefix and the grid hold.
        """
        grid_size = self.grid_size if grid_size is None else grid_size
        check_grid(grid_size, self.prefix, query.shape[1])
        weight = take(self.weight.unflatten(0, (-1, self.head_dim)), heads).flatten(0, 1)

        def convolve(states, mask):
            states = without_padding(states, mask)
            maps = states[:, self.prefix :].transpose(1, 2).unflatten(-1, grid_size)
            maps = nn.functional.conv2d(maps, weight, padding=self.padding, groups=len(weight))
            return torch.cat((states[:, : self.prefix], maps.flatten(2).transpose(1, 2)), dim=1)

        return convolve(query, query_mask), convolve(key, key_mask)


def check_grid(grid_size: tuple[int, int], prefix: int, tokens: int) -> None:
    """
    Raises:
        ValueError: when there are not as many tokens as the prefix and the grid hold.
    """
    expected = prefix + grid_size[0] * grid_size[1]
    if tokens != expected:
        raise ValueError(
            f"`grid_size` {list(grid_size)} with {prefix} prefix tokens needs {expected} tokens, got {tokens}."
        )


def map_shape(head_dim: int) -> tuple[int, int]:
    """
    The most square two-dimensional shape of a vector, for Conv2D.

    Raises:
        ValueError: for a prime size, which has none.
    """
    height = next((side for side in range(int(head_dim**0.5), 1, -1) if head_dim % side == 0), None)
    if height is None:
        raise ValueError(
            "Conv2D reshapes each head to a two-dimensional map: a head's width, `hidden_size / num_attention_heads`, "
            f"must be a product of two numbers above 1 such as 4, 6, 8, 9, 16, 32 or 64, got {head_dim}."
        )
    return height, head_dim // height


# What Conv2D convolves.
CONV2D_READINGS = {"vector": VectorConvolution, "grid": GridConvolution}


def _conv2d(config: "PrimalDualConfig") -> nn.Module:
    return CONV2D_READINGS[config.conv2d_reading](config)


TRANSFORMS = {"bn": KeyBatchNorm, "conv1d": SequenceConvolution, "conv2d": _conv2d}


__all__ = [
    "CONV2D_READINGS",
    "TRANSFORMS",
    "Filters",
    "GridConvolution",
    "KeyBatchNorm",
    "SequenceConvolution",
    "Transform",
    "VectorConvolution",
    "check_grid",
    "map_shape",
    "token_statistics",
]
