"""
The support vector regression whose dual is an attention (paper, section 2 and Theorem 1).

**Primal.** Keys k_1, ..., k_N with targets y_j of m outputs, a feature map Phi with kernel K(x, y) = Phi(x) . Phi(y),
a transform T and the normalizer h(x) = sum_j K(T(x), T(k_j)) give the layer f(x) = W Phi(T(x)) / h(x), b = 0. With
phi_j = Phi(T(k_j)) / h(k_j), W minimizes

    1/2 ||W||_F^2 + C sum_j sum_d (xi_j(d) + xi~_j(d))
    subject to    y_j(d) - w_d . phi_j <= epsilon + xi_j(d),    w_d . phi_j - y_j(d) <= epsilon + xi~_j(d),
                  xi_j(d) >= 0,    xi~_j(d) >= 0

**Dual.** The outputs d do not meet, so take one and drop its letter. With multipliers alpha_j, alpha~_j >= 0 of the
two constraints of the tube and eta_j, eta~_j >= 0 of xi_j, xi~_j >= 0 the Lagrangian is

    1/2 ||w||^2 + sum_j (C - alpha_j - eta_j) xi_j + sum_j (C - alpha~_j - eta~_j) xi~_j
    + sum_j alpha_j (y_j - w . phi_j - epsilon) + sum_j alpha~_j (w . phi_j - y_j - epsilon)

Its minimum over xi and xi~ is finite only for alpha_j = C - eta_j <= C and alpha~_j <= C, and over w it lies at

    w = sum_j (alpha_j - alpha~_j) phi_j

There it is -1/2 a^T G a + y^T a - epsilon sum_j (alpha_j + alpha~_j), with a = alpha - alpha~ and

    G_ij = phi_i . phi_j = K(T(k_i), T(k_j)) / (h(k_i) h(k_j))

At the maximum one of alpha_j, alpha~_j is 0 (lowering both by as much leaves a and only gains epsilon), so their sum
is |a_j|, and the dual is

    minimize 1/2 a^T G a + epsilon ||a||_1 - y^T a    subject to    |a_j| <= C

without the constraint sum_j a_j = 0, which only a free b would bring. The constraints are affine, so the optimal
values of both are equal (strong duality), and complementary slackness reads, with r_j = y_j - f(k_j):

    |r_j| < epsilon  =>  a_j = 0
    0 < |a_j| < C    =>  r_j = epsilon sign(a_j)
    |r_j| > epsilon  =>  a_j = C sign(r_j)

**Attention.** With v_j = a_j / h(k_j) the layer is f(x) = sum_j K(T(x), T(k_j)) / h(x) v_j: the support vector
expansion, and attention with the dual's variables as values. A finite C bounds |v_j(d)| by C / h(k_j).

**Converse.** For any V the targets y_j = f(k_j) + epsilon sign(v_j), f of these values, have r_j = epsilon sign(a_j)
for all j: with C >= max |h(k_j) v_j(d)|, a_j = h(k_j) v_j is an optimum of the dual. It is the only one where G is
invertible; otherwise (fewer features than keys, or equal keys) others give the same W and f.

**From the gap to the values.** Primal less dual value is the sum over keys of |a_j| (epsilon - r_j sign(a_j)) where
that is positive and of (C - |a_j|) (r_j sign(a_j) - epsilon) where this is. A gap g thus bounds the error of each
residual by g / min(|a_j|, C - |a_j|), and, as K v = h f on the keys, that of the values by |K^-1| diag(h) times these:
a small gap says little of the values where K is ill-conditioned or a coefficient is near 0 or C.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .feature_maps import Kernel, log_kernel
from .inputs import Array, as_matrix, check_range
from .solver import DualProblem

# From the keys (N, D) to the map T, which then takes keys and queries alike.
Transform = Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]


def batch_normalization(beta: float = 1.0, scaling: bool = True, eps: float = 1e-5) -> Transform:
    """T(x) = (x - beta mu) / sqrt(var + eps) by the keys' mean and biased variance (Definition 1); no division without
    `scaling`."""

    def from_keys(keys: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        mean = keys.mean(dim=0)
        deviation = (keys.var(dim=0, correction=0) + eps).sqrt() if scaling else torch.ones_like(mean)
        return lambda x: (x - beta * mean) / deviation

    return from_keys


def support_vector_expansion(
    queries: Array,
    keys: Array,
    values: Array,
    kernel: Kernel = "softmax",
    transform: Transform | None = None,
    training_sets: Array | None = None,
) -> torch.Tensor:
    """
    f(q_i) = sum_j K(T(q_i), T(k_j)) / h(q_i) v_j, which is attention (paper, section 2, Theorem 1). Keys that were
    pooled (Definition 2) are handed over as they are.

    Args:
        queries (array of shape `(queries, D)`), keys (`(N, D)`), values (`(N, outputs)`).
        kernel: `"softmax"`, `"linear"`, or a function of x and y that returns K.
        transform: As `batch_normalization()` returns it; it sees all keys.
        training_sets (boolean array of shape `(queries, N)`, *optional*): Which keys each query's regression is fitted
            on, and its h sums over: sparse attention.

    Returns:
        Tensor of shape `(queries, outputs)`, float64.
    """
    keys = as_matrix("keys", keys)
    queries = as_matrix("queries", queries, columns=keys.shape[1])
    values = as_matrix("values", values, rows=len(keys))
    T = _fitted(transform, keys)
    logits = log_kernel(kernel, T(queries), T(keys))
    if training_sets is not None:
        training_sets = torch.as_tensor(training_sets, dtype=torch.bool)
        if training_sets.shape != logits.shape:
            raise ValueError(
                f"`training_sets` must have shape (queries, keys) = {tuple(logits.shape)}, got "
                f"{tuple(training_sets.shape)}."
            )
        logits = logits.masked_fill(~training_sets, -torch.inf)
    without = logits.amax(dim=1) == -torch.inf
    if without.any():
        raise ValueError(f"`queries` must each see a key, but none counts for query {int(without.nonzero()[0])}.")
    return torch.softmax(logits, dim=1) @ values


def values_to_targets(
    keys: Array,
    values: Array,
    kernel: Kernel = "softmax",
    epsilon: float = 0.0,
    transform: Transform | None = None,
) -> tuple[torch.Tensor, float]:
    """
    The converse of Theorem 1: the targets y = (attention of the keys on themselves applied to V) + epsilon sign(V)
    and the least C = max |h(k_j) v_j(d)| that make V the solution of the regression (see the top of this file).

    Arguments are those of `support_vector_expansion`; `epsilon`, half the width of the tube, may not be negative.
    """
    check_range("epsilon", epsilon, least=0, allowed=True)
    keys = as_matrix("keys", keys)
    values = as_matrix("values", values, rows=len(keys))
    targets = support_vector_expansion(keys, keys, values, kernel, transform) + epsilon * values.sign()
    points = _fitted(transform, keys)(keys)
    normalizers = log_kernel(kernel, points, points).logsumexp(dim=1).exp()
    return targets, (normalizers.unsqueeze(1) * values).abs().max().item()


def log_squared_weight_norm(log_gram: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """
    log ||W||_F^2 by the kernel trick, sum_ij (a_i . a_j) K(k_i, k_j) / (h_i h_j) = sum_ij (v_i . v_j) K(k_i, k_j),
    from log K `(N, N)` and the values `(N, outputs)`; -inf for W = 0.
    """
    largest = log_gram.max()
    squared = (values * ((log_gram - largest).exp() @ values)).sum()
    # A sum of squares; rounding may take it below zero.
    return squared.clamp(min=0).log() + largest


@dataclass(frozen=True, eq=False)
class RegressionSolution:
    """
    A solved regression on N keys: `coefficients` alpha - alpha~ and `values` v_j = (alpha_j - alpha~_j) / h(k_j) of
    shape `(N, outputs)`, `log_normalizers` log h(k_j), values of the objectives, summed over the outputs, the largest
    `relative_gap` (primal - dual) / primal of an output, and what was fitted how.
    """

    coefficients: torch.Tensor
    values: torch.Tensor
    log_normalizers: torch.Tensor
    primal_value: float
    dual_value: float
    relative_gap: float
    iterations: int
    keys: torch.Tensor
    targets: torch.Tensor
    regression: "PrimalDualRegression"

    @property
    def duality_gap(self) -> float:
        """Primal less dual value, at least 0 up to rounding."""
        return self.primal_value - self.dual_value

    @property
    def support_vectors(self) -> torch.Tensor:
        """Keys with 0 < |alpha - alpha~|, up to 1e-9 of the largest; shape `(N, outputs)`, boolean."""
        magnitudes = self.coefficients.abs()
        return magnitudes > 1e-9 * magnitudes.max()

    @property
    def bounded(self) -> torch.Tensor:
        """Keys with |alpha - alpha~| = C, up to 1e-9 of it; shape `(N, outputs)`, boolean."""
        return self.coefficients.abs() >= self.regression.C * (1 - 1e-9)

    @property
    def residuals(self) -> torch.Tensor:
        """y_j - f(k_j), of shape `(N, outputs)`."""
        return self.targets - self.predict(self.keys)

    def predict(self, queries: Array) -> torch.Tensor:
        """f(q_i), of shape `(queries, outputs)`, for queries of shape `(queries, D)`."""
        regression = self.regression
        return support_vector_expansion(queries, self.keys, self.values, regression.kernel, regression.transform)

    def primal_weight(self, feature_map: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """
        W = sum_j (alpha_j - alpha~_j) Phi(T(k_j))^T / h(k_j), of shape `(outputs, features)`, where `feature_map` is
        Phi, from `(N, D)` to `(N, features)`, of the kernel that the regression was fitted with.
        """
        return self.values.T @ feature_map(_fitted(self.regression.transform, self.keys)(self.keys))


@dataclass(frozen=True)
class PrimalDualRegression:
    """
    The support vector regression with b = 0 whose support vector expansion is an attention (paper, section 2); primal,
    dual and their derivation are in this module's docstring.

    Args:
        kernel: `"softmax"` for exp(x . y / sqrt(D)), `"linear"` for that of elu(x) + 1, or a function of x `(N, D)`
            and y `(M, D)` that returns K `(N, M)`.
        C (`float`): price of leaving the tube.
        epsilon (`float`): half the width of the tube.
        transform (*optional*): T, as `batch_normalization()` returns it: from the keys to a map of keys and queries.
        tolerance (`float`): largest relative duality gap of an output.
        max_iterations (`int`): of L-BFGS-B for each output.
    """

    kernel: Kernel = "softmax"
    C: float = 1.0
    epsilon: float = 0.1
    transform: Transform | None = None
    tolerance: float = 1e-10
    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        check_range("C", self.C, least=0, allowed=False)
        check_range("epsilon", self.epsilon, least=0, allowed=True)
        check_range("tolerance", self.tolerance, least=0, allowed=False)
        check_range("max_iterations", self.max_iterations, least=1, allowed=True)

    def fit(self, keys: Array, targets: Array) -> RegressionSolution:
        """
        Solves the dual for keys of shape `(N, D)` and targets of shape `(N, outputs)`; a `ConvergenceError` names the
        duality gap where it stays above `tolerance`.
        """
        keys = as_matrix("keys", keys).detach()
        targets = as_matrix("targets", targets, rows=len(keys)).detach()
        points = _fitted(self.transform, keys)(keys)
        log_gram = log_kernel(self.kernel, points, points)
        half_diagonal = log_gram.diagonal() / 2
        if (half_diagonal == -torch.inf).any():
            key = int((half_diagonal == -torch.inf).nonzero()[0])
            raise ValueError(f"`kernel` must be positive for a key with itself, got 0 for key {key}.")
        log_normalizers = log_gram.logsumexp(dim=1)
        # h(k_j) / sqrt(K(k_j, k_j)) has to be a number.
        if (log_normalizers - half_diagonal).max() > 700:
            raise ValueError(f"`keys` must not make h overflow, got log h = {log_normalizers.max().item():.4g}.")
        problem = DualProblem(
            gram=(log_gram - half_diagonal.unsqueeze(1) - half_diagonal).exp().numpy(),
            scale=(half_diagonal - log_normalizers).exp().unsqueeze(1).numpy(),
            targets=targets.numpy(),
            C=self.C,
            epsilon=self.epsilon,
        )
        u, iterations, relative_gap = problem.solve(self.tolerance, self.max_iterations)
        primal, dual = (float(value.sum()) for value in problem.primal_and_dual(u))
        # Both from u = s a and s = sqrt(K) / h, so that neither is lost where h is large.
        u = torch.from_numpy(np.ascontiguousarray(u))
        return RegressionSolution(
            coefficients=u * (log_normalizers - half_diagonal).exp().unsqueeze(1),
            values=u * (-half_diagonal).exp().unsqueeze(1),
            log_normalizers=log_normalizers,
            primal_value=primal,
            dual_value=dual,
            relative_gap=float(relative_gap),
            iterations=iterations,
            keys=keys,
            targets=targets,
            regression=self,
        )


def _fitted(transform: Transform | None, keys: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return (lambda x: x) if transform is None else transform(keys)
