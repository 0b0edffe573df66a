"""The feature maps Phi of the primal layer, and their kernels K(x, y) = Phi(x) . Phi(y) (paper, section 2)."""

import itertools
import math
from collections.abc import Callable

import torch

from .inputs import Array, as_matrix

# A kernel by its name, or a function of x (N, D) and y (M, D) that returns K(x_i, y_j), of shape (N, M).
Kernel = str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_MOST_FEATURES = 1_000_000


class ExponentialFeatureMap:
    """
    The feature map of softmax attention, Phi(x) . Phi(y) = exp(x . y / sqrt(D)), cut off at a degree (paper,
    section 2).

    The Taylor series of exp, each power of x . y spread out by the multinomial theorem, gives one feature for each
    multi-index n = (n_1, ..., n_D):

        Phi_n(x) = prod_d (x_d / D^(1/4))^(n_d) / sqrt(prod_d n_d!)

    With z = x . y / sqrt(D) the features of |n| <= M give the first M + 1 terms of exp(z), so that they miss at most
    |z|^(M+1) / (M+1)! exp(max(z, 0)) (Lagrange's remainder). Their number, binomial(D + M, M), is why this is for
    small D only.

    Args:
        dim (`int`): D, the width of the inputs.
        degree (`int`): M, the highest |n| that is kept.
    """

    def __init__(self, dim: int, degree: int):
        if dim < 1:
            raise ValueError(f"`dim` must be at least 1, got {dim}.")
        if degree < 0:
            raise ValueError(f"`degree` must be at least 0, got {degree}.")
        self.dim, self.degree = dim, degree
        self.num_features = math.comb(dim + degree, degree)
        if self.num_features > _MOST_FEATURES:
            raise ValueError(
                f"`degree` {degree} for `dim` {dim} would need {self.num_features} features, more than "
                f"{_MOST_FEATURES}; lower one of them."
            )
        # Choosing `degree` times among D inputs and "none" lists every multi-index once.
        choices = torch.tensor(list(itertools.combinations_with_replacement(range(dim + 1), degree)), dtype=torch.long)
        counts = torch.zeros(self.num_features, dim + 1, dtype=torch.long)
        self.exponents = counts.scatter_add_(1, choices, torch.ones_like(choices))[:, :dim]

    def __call__(self, x: Array) -> torch.Tensor:
        """Features `(N, num_features)`, float64, of `x` `(N, dim)`."""
        x = as_matrix("x", x, columns=self.dim)
        powers = torch.arange(self.degree + 1, dtype=torch.float64)
        table = (x / self.dim**0.25).unsqueeze(-1) ** powers / torch.lgamma(powers + 1).div(2).exp()
        features = torch.ones(len(x), self.num_features, dtype=torch.float64)
        for channel in range(self.dim):
            features *= table[:, channel, self.exponents[:, channel]]
        return features

    def error_bound(self, x: Array, y: Array) -> torch.Tensor:
        """
        Bound of |Phi(x_i) . Phi(y_j) - exp(x_i . y_j / sqrt(D))|, of shape `(N, M)`, by Lagrange's remainder; rounding
        comes on top.
        """
        z = log_kernel("softmax", as_matrix("x", x, columns=self.dim), as_matrix("y", y, columns=self.dim))
        order = self.degree + 1
        return (order * z.abs().log() - math.lgamma(order + 1) + z.clamp(min=0)).exp()


def elu_feature_map(x: torch.Tensor) -> torch.Tensor:
    """Phi(x) = elu(x) + 1, elementwise: the feature map of linear attention (Katharopoulos et al., 2020)."""
    # Below zero it is exp(x), which elu(x) + 1 would round to zero where it is small.
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def feature_map_kernel(feature_map: Callable[[torch.Tensor], torch.Tensor]) -> Kernel:
    """The kernel K(x, y) = Phi(x) . Phi(y) of a map of `(N, D)` to `(N, features)`."""

    def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return feature_map(x) @ feature_map(y).T

    kernel.__name__ = getattr(feature_map, "__name__", type(feature_map).__name__)
    return kernel


def log_kernel(kernel: Kernel, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """
    log K(x_i, y_j) of shape `(N, M)`, -inf where the kernel is zero, for x `(N, D)` and y `(M, D)`; in this space the
    large logits of a trained layer do not overflow. `"softmax"` is exp(x . y / sqrt(D)), `"linear"` that of
    `elu_feature_map`.
    """
    if kernel == "softmax":
        return x @ y.T / x.shape[-1] ** 0.5
    if kernel == "linear":
        kernel = feature_map_kernel(elu_feature_map)
    if not callable(kernel):
        raise ValueError(f"`kernel` must be 'softmax', 'linear' or a function of x and y, got {kernel!r}.")
    name = getattr(kernel, "__name__", repr(kernel))
    values = kernel(x, y)
    if values.shape != (len(x), len(y)):
        raise ValueError(f"`kernel` {name} must return shape {(len(x), len(y))}, got {tuple(values.shape)}.")
    if not torch.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f"`kernel` {name} must be finite and not negative, or h would be no normalizer, got values of "
            f"{values.min().item():.3g} to {values.max().item():.3g}."
        )
    return values.log()
