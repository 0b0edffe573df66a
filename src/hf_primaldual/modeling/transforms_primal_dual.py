"""The transforms T of a primal layer f(x) = W Phi(T(x)) / h(T(x)): what becomes of queries and keys."""

import torch
from torch import nn

from .configuration_primal_dual import PrimalDualConfig


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
    weight = None if mask is None else (mask.to(dtype) / mask.sum(dim=1, keepdim=True)).unsqueeze(-1)

    def mean_over_tokens(values):
        if weight is None:
            return values.mean(dim=1, keepdim=True, dtype=dtype)
        return (values * weight).sum(dim=1, keepdim=True, dtype=dtype)

    mean = mean_over_tokens(states)
    if not with_variance:
        return mean, None, None
    centred = states - mean
    return mean, mean_over_tokens(centred.square()), centred


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
        self.initial_beta = float(config.bn_beta)
        self.scaling = config.bn_scaling
        self.eps = config.bn_eps
        # One beta per head, or the paper's constant.
        self.beta = (
            nn.Parameter(torch.full((config.num_attention_heads,), self.initial_beta))
            if config.bn_beta_learnable
            else self.initial_beta
        )

    def fold(
        self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, heads: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Queries and keys with which softmax attention equals Attention-BN.

        Softmax ignores what is constant over the keys, so that `((q - beta mu) / s) . ((k - beta mu) / s)` may be
        replaced by `((q - beta mu) / s^2) . (k - c)` with any `c`. Without scaling the keys stay as they are. With it
        they are centred, `c = mu`: where a head has few keys and `1 / s^2` is huge, rounding errors common to all keys
        would grow by it, in the gradients of a fused back-end to percents.

        Args:
            query (`torch.Tensor` of shape `(batch, tokens, len(heads) * head_dim)`): the heads side by side.
            key (`torch.Tensor` of shape `(batch, keys, len(heads) * head_dim)`): likewise.
            mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
            heads (`list[int]`): which of the layer's heads these are.

        Returns:
            Both in the shapes and dtypes that they came in.
        """
        mean, variance, centred = token_statistics(key, mask, with_variance=self.scaling)
        beta = self.beta
        if isinstance(beta, nn.Parameter):
            beta = beta[heads].repeat_interleave(self.head_dim)
        centre = beta * mean
        if variance is None:
            return (query - centre).to(query.dtype), key
        inverse_variance = (variance + self.eps).reciprocal()
        query = torch.addcmul(-centre * inverse_variance, query, inverse_variance).to(query.dtype)
        return query, centred.to(key.dtype)


TRANSFORMS = {"bn": KeyBatchNorm}


__all__ = ["TRANSFORMS", "KeyBatchNorm", "token_statistics"]
