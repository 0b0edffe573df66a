"""The transforms T of a primal layer f(x) = W Phi(T(x)) / h(T(x)): what becomes of queries and keys."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import nn
from transformers import initialization as init

from .configuration_primal_dual import PrimalDualConfig, map_shape
from .memory_primal_dual import keeps_less


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A region without autocast, on devices that know none (meta) too."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def token_statistics(
    states: torch.Tensor, mask: torch.Tensor | None, with_variance: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """
    Mean and biased variance over the tokens of each sequence, channel by channel.

    Two passes of plain means: over the token axis they are some ten times faster on a CPU than `torch.var_mean`, and
    unlike the mean of squares they cancel nothing when the mean is large against the deviation.

    Args:
        states (`torch.Tensor` of shape `(batch, tokens, channels)`): for keys, the heads side by side.
        mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for the tokens that count.
        with_variance (`bool`): whether the variance is wanted.

    Returns:
        Mean and variance of shape `(batch, 1, channels)`, and the states less their mean, which the variance needed
        anyway, all at least float32; the last two are `None` if no variance is wanted.
    """
    dtype = torch.promote_types(states.dtype, torch.float32)
    weight = None if mask is None else _shares(mask, dtype)

    def mean_over_tokens(values):
        if weight is None:
            return values.mean(dim=1, keepdim=True, dtype=dtype)
        return (values * weight).sum(dim=1, keepdim=True, dtype=dtype)

    mean = mean_over_tokens(states)
    if not with_variance:
        return mean, None, None
    centred = states - mean
    return mean, mean_over_tokens(centred.square()), centred


def _shares(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What each token weighs in the mean of its sequence, `(batch, tokens, 1)`."""
    return (mask.to(dtype) / mask.sum(dim=1, keepdim=True)).unsqueeze(-1)


class Transform(Protocol):
    """
    What a transform T is: a module that takes a `PrimalDualConfig`, and in its forward

    - query (`torch.Tensor` of shape `(batch, tokens, len(heads) * head_dim)`): the heads side by side;
    - key (`torch.Tensor` of shape `(batch, keys, len(heads) * head_dim)`): likewise;
    - query_mask, key_mask (`torch.BoolTensor` of shape `(batch, tokens)` and `(batch, keys)`, or `None`): true for the
      tokens that count;
    - heads (`list[int]`): which of the layer's heads these are;

    and returns the transformed queries and keys, of the same shapes.
    """

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        query_mask: torch.Tensor | None,
        key_mask: torch.Tensor | None,
        heads: list[int],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class KeyBatchNorm(nn.Module):
    """
    Batch normalization by the statistics of the keys, T(x) = (x - beta mu) / sqrt(var + eps) (Definition 1).

    `mu` and `var` are the mean and biased variance of the keys over the tokens of their own sequence and head. Nothing
    is kept from one batch to the next, and the statistics are taken in float32 under autocast and half precision.

    Args:
        config (`PrimalDualConfig`): reads the fields `bn_*`.
    """

    def __init__(self, config: PrimalDualConfig):
        super().__init__()
        self.head_dim = config.head_dim
        self.eps = config.bn_eps
        self.initial_beta = float(config.bn_beta)
        self.scaling = config.bn_scaling
        # One beta per head, or the paper's constant.
        self.beta = (
            nn.Parameter(torch.full((config.num_attention_heads,), self.initial_beta))
            if config.bn_beta_learnable
            else self.initial_beta
        )

    def reset_parameters(self):
        if isinstance(self.beta, nn.Parameter):
            init.constant_(self.beta, self.initial_beta)

    def retune(self, config: PrimalDualConfig) -> None:
        """Takes a constant beta and the scaling from a configuration that has moved; a learned beta stays."""
        self.scaling = config.bn_scaling
        if not isinstance(self.beta, nn.Parameter):
            self.beta = float(config.bn_beta)

    def _beta_of(self, heads: list[int]) -> float | torch.Tensor:
        """The constant, or that of each channel."""
        if isinstance(self.beta, nn.Parameter):
            return self.beta[heads].repeat_interleave(self.head_dim)
        return self.beta

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        query_mask: torch.Tensor | None,
        key_mask: torch.Tensor | None,
        heads: list[int],
        folded: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        T of queries and keys, for any kernel; arguments as for [`Transform`]. With `folded` queries and keys with
        which softmax attention equals that, by [`fold_batch_norm`].
        """
        if folded:
            return fold_batch_norm(query, key, key_mask, self._beta_of(heads), self.scaling, self.eps)
        mean, variance, _ = token_statistics(key, key_mask, with_variance=bool(self.scaling))
        centre = self._beta_of(heads) * mean
        scale = 1 if variance is None else (variance + self.eps) ** (-float(self.scaling) / 2)
        scaled = _without_padding((key - centre) * scale, key_mask).to(key.dtype)
        return ((query - centre) * scale).to(query.dtype), scaled


def fold_batch_norm(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    beta: float | torch.Tensor,
    scaling: bool | float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Queries and keys with which softmax attention equals Attention-BN (Definition 1).

    Softmax ignores what is constant over the keys, so that `((q - beta mu) / s) . ((k - beta mu) / s)` may be
    replaced by `((q - beta mu) / s) . ((k - c) / s)` with any `c`. Without scaling the keys stay as they are. With it
    they are centred, `c = mu`: where a head has few keys and `1 / s` is huge, rounding errors common to all keys would
    grow by it. Each side is divided by `s` once: `1 / s^2` reaches 1e5, with which float16 overflows.

    Args:
        query (`torch.Tensor` of shape `(batch, tokens, channels)`): heads side by side.
        key (`torch.Tensor` of shape `(batch, keys, channels)`): likewise.
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        beta (`float`, or `torch.Tensor` of shape `(channels,)`): the weight of the mean.
        scaling (`bool` or `float`): whether to divide by the deviation, or the power of it that is divided by.
        eps (`float`): added to the variance.

    Returns:
        Both in the shapes and dtypes that they came in.
    """
    if not scaling and isinstance(beta, float) and beta == 0:
        return query, key
    if not scaling:
        return (query - beta * token_statistics(key, mask, with_variance=False)[0]).to(query.dtype), key
    fold = _Fold.apply if keeps_less(query) else _fold
    return fold(query, key, mask, beta, float(scaling), eps)[:2]


def _fold(query, key, mask, beta, power, eps) -> tuple[torch.Tensor, ...]:
    """Queries and keys, and their keys' mean and the factor by which they were multiplied."""
    mean, variance, centred = token_statistics(key, mask)
    factor = (variance + eps) ** (-power / 2)
    query = torch.addcmul(-beta * mean * factor, query, factor).to(query.dtype)
    # Padding is as far from the mean as it likes: in half precision it would overflow before it is masked.
    return query, _without_padding(centred * factor, mask).to(key.dtype), mean, factor


class _Fold(torch.autograd.Function):
    """[`_fold`], of which only the results are kept, which the back-end keeps anyway."""

    generate_vmap_rule = True
    forward = staticmethod(_fold)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, _, mask, beta, ctx.power, _ = inputs
        ctx.beta = None if isinstance(beta, torch.Tensor) else beta
        ctx.save_for_backward(*output, mask, beta if ctx.beta is None else None)

    @staticmethod
    def backward(ctx, to_query, to_key, to_mean, to_factor):
        query, key, mean, factor, mask, beta = ctx.saved_tensors
        beta = ctx.beta if beta is None else beta

        def total(values):
            return values.sum(dim=1, keepdim=True, dtype=factor.dtype)

        # With x' = (x - centre) factor, the gradient of the factor is sum_x (dx' . x') / factor.
        to_factor = to_factor + (total(to_query * query) + total(to_key * key)) / factor
        to_centre = -factor * total(to_query)
        to_mean = to_mean - factor * total(to_key) + beta * to_centre
        # And with factor = (variance + eps)^(-power / 2), that of a key's square is -power / 2 factor^(1 + 2 / power).
        share = 1 / key.shape[1] if mask is None else _shares(mask, factor.dtype)
        to_squares = to_factor * (-ctx.power) * factor ** (2 / ctx.power)
        to_key = (torch.addcmul(to_mean, to_squares, key) * share + to_key * factor).to(key.dtype)
        to_beta = (to_centre * mean).sum(dim=(0, 1)) if ctx.needs_input_grad[3] else None
        return (to_query * factor).to(query.dtype), to_key, None, to_beta, None, None


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

    def reset_parameters(self):
        init.dirac_(self.weight, groups=len(self.weight))


class SequenceConvolution(Filters):
    """
    Attention-Conv1D: queries and keys are convolved along the sequence, channel by channel, with the same filters.

    Args:
        config (`PrimalDualConfig`): reads `conv_kernel_size`.
    """

    def __init__(self, config: PrimalDualConfig):
        super().__init__(config.hidden_size, config.conv_kernel_size, dimensions=1)
        self.head_dim = config.head_dim

    def forward(self, query, key, query_mask, key_mask, heads):
        """T of queries and keys; arguments as for [`Transform`]."""
        weight = self.weight.unflatten(0, (-1, self.head_dim))[heads].flatten(0, 1)

        def convolve(states, mask):
            channels = _without_padding(states, mask).transpose(1, 2)
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

    def __init__(self, config: PrimalDualConfig):
        super().__init__(config.num_attention_heads, config.conv_kernel_size, dimensions=2)
        self.shape = map_shape(config.head_dim)

    def forward(self, query, key, query_mask, key_mask, heads):
        """T of queries and keys; arguments as for [`Transform`]."""
        weight = self.weight[heads]

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

    def __init__(self, config: PrimalDualConfig):
        super().__init__(config.hidden_size, config.conv_kernel_size, dimensions=2)
        self.head_dim = config.head_dim
        self.grid_size = tuple(config.grid_size)
        self.prefix = config.num_prefix_tokens

    def forward(self, query, key, query_mask, key_mask, heads, grid_size=None):
        """
        T of queries and keys; arguments as for [`Transform`], and the grid where it is not the configuration's.

        Raises:
            ValueError: when there are not as many tokens as the prefix and the grid hold.
        """
        grid_size = self.grid_size if grid_size is None else grid_size
        check_grid(grid_size, self.prefix, query.shape[1])
        weight = self.weight.unflatten(0, (-1, self.head_dim))[heads].flatten(0, 1)

        def convolve(states, mask):
            states = _without_padding(states, mask)
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


def _without_padding(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Zeros in the place of padding, as a convolution finds them past the ends of a sequence."""
    return states if mask is None else states.masked_fill(~mask.unsqueeze(-1), 0)


TRANSFORMS = {"bn": KeyBatchNorm, "conv1d": SequenceConvolution, "conv2d": VectorConvolution}


__all__ = [
    "TRANSFORMS",
    "Filters",
    "GridConvolution",
    "KeyBatchNorm",
    "SequenceConvolution",
    "Transform",
    "VectorConvolution",
    "check_grid",
    "fold_batch_norm",
    "token_statistics",
    "without_autocast",
]
