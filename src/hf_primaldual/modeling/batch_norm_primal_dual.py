"""
Batch normalization by the keys, the transform of Attention-BN: statistics over the tokens, T of queries and keys, and
what softmax attention makes of it more cheaply.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import initialization as init

from .head_groups_primal_dual import take
from .memory_primal_dual import are_long, kept_scaled
from .padding_primal_dual import without_padding

if TYPE_CHECKING:
    from .configuration_primal_dual import PrimalDualConfig


# Of so many numbers, operations cost by their number; of more, by how often they read and write memory.
FEW = 2**16


def token_statistics(
    states: torch.Tensor, mask: torch.Tensor | None, with_variance: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """
    Mean and biased variance over the tokens of each sequence, channel by channel.

    Two passes of plain sums: over the token axis they are some ten times faster on a CPU than `torch.var_mean`, their
    backward copies nothing as that of a mean does, and unlike the mean of squares they cancel nothing when the mean is
    large against the deviation.

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
            return values.sum(dim=1, keepdim=True, dtype=dtype) / values.shape[1]
        return (values * weight).sum(dim=1, keepdim=True, dtype=dtype)

    mean = mean_over_tokens(states)
    if not with_variance:
        return mean, None, None
    centred = states - mean
    return mean, mean_over_tokens(centred.square()), centred


def _shares(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What each token weighs in the mean of its sequence, `(batch, tokens, 1)`."""
    return (mask.to(dtype) / mask.sum(dim=1, keepdim=True)).unsqueeze(-1)


class KeyBatchNorm(nn.Module):
    """
    Batch normalization by the statistics of the keys, T(x) = (x - beta mu) / sqrt(var + eps) (Definition 1).

    `mu` and `var` are the mean and biased variance of the keys over the tokens of their own sequence and head. Nothing
    is kept from one batch to the next, and the statistics are taken in float32 under autocast and half precision.

    Args:
        config (`PrimalDualConfig`): reads the fields `bn_*`.
    """

    # Set on the last transform of softmax attention, which ignores what is constant over the keys. It then takes all
    # groups of heads at once as well: queries side by side, and tuples of the groups' keys and of their masks.
    folds = False
    # PEFT moves it along where it merges what is no LoRA.
    weight = None

    def __init__(self, config: "PrimalDualConfig"):
        super().__init__()
        self.head_dim = config.head_dim
        self.eps = config.bn_eps
        self.initial = {"beta": float(config.bn_beta), "scaling": float(config.bn_scaling)}
        # Beta and the power of the deviation: one for each head, or the paper's constants.
        self.beta = self._of_heads(config, config.bn_beta, config.bn_beta_learnable)
        self.scaling = self._of_heads(config, config.bn_scaling, config.bn_scaling_learnable)

    @staticmethod
    def _of_heads(config: "PrimalDualConfig", value: float | bool, is_learned: bool):
        return nn.Parameter(torch.full((config.num_attention_heads,), float(value))) if is_learned else value

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            init.constant_(parameter, self.initial[name])

    def of_heads(self) -> tuple[float | torch.Tensor, bool | float | torch.Tensor, float]:
        """Beta, scaling and eps, of shape `(heads, 1, 1, 1)` where they are learned."""
        beta, scaling = (
            value.view(-1, 1, 1, 1) if isinstance(value, nn.Parameter) else value
            for value in (self.beta, self.scaling)
        )
        return beta, scaling, self.eps

    def forward(self, query, key, query_mask, key_mask, heads, grid_size=None):
        """T of queries and keys; arguments as for [`~transforms_primal_dual.Transform`]."""
        beta, scaling = (
            take(value, heads).repeat_interleave(self.head_dim) if isinstance(value, nn.Parameter) else value
            for value in (self.beta, self.scaling)
        )
        if not self.folds:
            return batch_norm(query, key, key_mask, beta, scaling, self.eps)
        keys, masks = (key, key_mask) if isinstance(key, tuple) else ((key,), (key_mask,))
        query, keys = fold_batch_norm(query, keys, masks, beta, scaling, self.eps)
        return query, keys if isinstance(key, tuple) else keys[0]


def batch_norm(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    beta: float | torch.Tensor,
    scaling: bool | float | torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    T of queries and keys (Definition 1), for any kernel.

    Args:
        query (`torch.Tensor` of shape `(batch, tokens, channels)`): heads side by side.
        key (`torch.Tensor` of shape `(batch, keys, channels)`): likewise.
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        beta (`float`, or `torch.Tensor` of shape `(channels,)`): the weight of the mean.
        scaling (`bool`, `float`, or `torch.Tensor` of shape `(channels,)`): whether to divide by the deviation, or the
            power of it that is divided by.
        eps (`float`): added to the variance.

    Returns:
        Both in the shapes and dtypes that they came in.
    """
    mean, variance, _ = token_statistics(key, mask, with_variance=_scales(scaling))
    centre = beta * mean
    factor = 1 if variance is None else _divisor(variance, scaling, eps)
    scaled = without_padding((key - centre) * factor, mask).to(key.dtype)
    return ((query - centre) * factor).to(query.dtype), scaled


def fold_batch_norm(
    query: torch.Tensor,
    keys: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor | None],
    beta: float | torch.Tensor,
    scaling: bool | float | torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """
    Queries and keys with which softmax attention equals Attention-BN (Definition 1).

    Softmax ignores what is constant over the keys, so that `((q - beta mu) / s) . ((k - beta mu) / s)` may be
    replaced by `((q - beta mu) / s^2) . (k - c)` with any `c`. Without scaling the keys stay as they are. With it
    they are centred, `c = mu`: where a head has few keys and `1 / s` is huge, rounding errors common to all keys would
    grow by it. In float16 each side is divided by `s` once: `1 / s^2` reaches 1e5, with which it overflows.

    Args:
        query (`torch.Tensor` of shape `(batch, tokens, channels)`): all heads side by side.
        keys (`torch.Tensor`s of shape `(batch, points, channels)`): of groups of heads, each on points of their own;
            their channels are the queries', in order.
        masks (`torch.BoolTensor`s of shape `(batch, points)`, or `None`): true for the points that count.
        beta, scaling, eps: as for [`batch_norm`], of all channels.
    """
    if not _scales(scaling):
        means = [token_statistics(key, mask, with_variance=False)[0] for key, mask in zip(keys, masks, strict=True)]
        return normalize_queries(query, _side_by_side(means), None, beta, scaling, eps), tuple(keys)
    if not (are_long(query) or query.dtype == torch.float16):
        found = [token_statistics(key, mask) for key, mask in zip(keys, masks, strict=True)]
        means, variances, centred = zip(*found, strict=True)
        query = normalize_queries(query, _side_by_side(means), _side_by_side(variances), beta, scaling, eps)
        return query, tuple(states.to(key.dtype) for states, key in zip(centred, keys, strict=True))
    powers = (
        scaling.split([key.shape[-1] for key in keys]) if isinstance(scaling, torch.Tensor) else [scaling] * len(keys)
    )
    of_groups = zip(keys, masks, powers, strict=True)
    scaled = [_scale_keys(key, mask, power, eps, are_long(query)) for key, mask, power in of_groups]
    keys, means, factors = zip(*scaled, strict=True)
    factor = _side_by_side(factors)
    return torch.addcmul(-beta * _side_by_side(means) * factor, query, factor).to(query.dtype), keys


def normalize_queries(
    query: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor | None,
    beta: float | torch.Tensor,
    scaling: bool | float | torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """
    `(q - beta mu) / (var + eps) ** scaling`, of statistics that broadcast over the queries' tokens; without a variance
    nothing is divided.
    """
    centre = mean if isinstance(beta, float) and beta == 1 else beta * mean
    if variance is None:
        return (query - centre).to(query.dtype)
    divisor = variance + eps
    if isinstance(scaling, torch.Tensor) or scaling != 1:
        divisor = divisor**scaling
    if query.numel() <= FEW:
        return ((query - centre) / divisor).to(query.dtype)
    factor = divisor.reciprocal()
    return torch.addcmul(-centre * factor, query, factor).to(query.dtype)


def _side_by_side(states: Sequence[torch.Tensor]) -> torch.Tensor:
    return states[0] if len(states) == 1 else torch.cat(tuple(states), dim=-1)


def _scale_keys(
    key: torch.Tensor, mask: torch.Tensor | None, scaling: float | torch.Tensor, eps: float, is_long: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A group's keys, centred and divided by the deviation; their mean; and what the queries are multiplied by."""
    kept = []
    with kept_scaled(key.shape, kept) if is_long else nullcontext():
        mean, variance, centred = token_statistics(key, mask)
        factor = of_queries = _divisor(variance, scaling, eps)
        if is_long:
            # Only the product of both sides matters. What a constant moves from one side to the other has no gradient,
            # so that the queries need not be kept for that of the factor: it comes through the keys alone.
            of_queries = factor.detach()
            factor = factor * (factor / of_queries)
        # Padding is as far from the mean as it likes: in half precision it would overflow before it is masked.
        scaled = without_padding(centred * factor, mask).to(key.dtype)
    kept += (scaled.detach(), factor.detach())
    return scaled, mean, of_queries


def _scales(scaling: bool | float | torch.Tensor) -> bool:
    return isinstance(scaling, torch.Tensor) or bool(scaling)


def _divisor(variance: torch.Tensor, scaling: bool | float | torch.Tensor, eps: float) -> torch.Tensor:
    """What is multiplied by, `(batch, 1, channels)`: a power of the deviation, downwards."""
    return (variance + eps) ** (-scaling / 2)


__all__ = ["FEW", "KeyBatchNorm", "batch_norm", "fold_batch_norm", "normalize_queries", "token_statistics"]
