"""Theorem 1: attention is the support vector expansion of a regression, and any values solve one."""

import pytest
import torch

from hf_primaldual.theory import (
    ExponentialFeatureMap,
    PrimalDualRegression,
    batch_normalization,
    elu_feature_map,
    support_vector_expansion,
    values_to_targets,
)
from hf_primaldual.theory.feature_maps import log_kernel
from tests.reference import naive

BN = (0.7, True, 1e-5)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def softmax_attention(q, k, v):
    return naive.softmax_attention(q, k, v, torch.ones(len(q), len(k), dtype=torch.bool))


def linear_attention(q, k, v):
    return naive.linear_attention(q, k, v, naive.elu_plus_one)


def pooled_keys(scale: int, dim: int) -> torch.Tensor:
    """Keys projected from windows of tokens (Definition 2)."""
    points, _ = naive.sample(random(29, 2 * dim), naive.windows_by_scale(torch.ones(29, dtype=torch.bool), scale))
    # Keys of deviation 1, as the others: nearer to each other, G tells them apart less well.
    return points @ random(2 * dim, dim) * (scale / (2 * dim)) ** 0.5


def attention_case(name: str):
    """Keys, queries, values, the regression's choices, and the attention by the reference's formulas."""
    q, choices, reference = random(11, 4), {}, softmax_attention
    k = pooled_keys(3, 4) if "sh" in name else random(9, 4)
    if "linear" in name:
        # No more keys than features: else other values give the same function.
        q, k, choices["kernel"], reference = random(11, 8), random(6, 8), "linear", linear_attention
    if "recentre" in name:
        choices["transform"], bn = batch_normalization(scaling=False), (1.0, False, 0.0)
    elif "bn" in name:
        choices["transform"], bn = batch_normalization(*BN), BN
    v = random(len(k), 3)
    kept = torch.ones(len(k), dtype=torch.bool)
    transformed = naive.batch_normalize(q, k, kept, *bn) if "bn" in name else (q, k)
    return q, k, v, choices, reference(*transformed, v)


def error_of_values(keys, values, C, gap, kernel="softmax", transform=None) -> torch.Tensor:
    """
    How far values may be from `values` at a duality gap, `(N, outputs)`: derived in the docstring of `regression.py`.

    For most random keys 1e-10; above it where the Gram matrix is ill-conditioned or a coefficient is near 0.
    """
    points = keys if transform is None else transform(keys)(keys)
    gram = log_kernel(kernel, points, points).exp()
    normalizers = gram.sum(dim=1, keepdim=True)
    coefficients = (normalizers * values).abs()
    residuals = gap / torch.minimum(coefficients, C - coefficients)
    return torch.linalg.inv(gram).abs() @ (normalizers * residuals)


@pytest.mark.parametrize(
    ("name", "epsilon"), [("softmax", 0.0), ("bn-recentre", 0.1), ("bn+sh", 0.1), ("linear", 0.0), ("linear-bn", 0.1)]
)
def test_theorem_1(name, epsilon):
    queries, keys, values, choices, attention = attention_case(name)
    targets, least_C = values_to_targets(keys, values, epsilon=epsilon, **choices)
    # A little above the least C, or the tie at the largest coefficient would tell nothing of the solver.
    regression = PrimalDualRegression(C=1.5 * least_C, epsilon=epsilon, tolerance=1e-13, **choices)
    solution = regression.fit(keys, targets)

    # What the tolerance promises, and rounding.
    allowed = 1e-12 + error_of_values(keys, values, 1.5 * least_C, 1e-13 * solution.primal_value, **choices)
    assert ((solution.values - values).abs() < allowed).all()
    # Averages of the values.
    assert (solution.predict(queries) - attention).abs().max() < allowed.max()
    assert (support_vector_expansion(queries, keys, values, **choices) - attention).abs().max() < 1e-13
    # Strong duality.
    assert solution.relative_gap <= 1e-13
    assert solution.duality_gap == pytest.approx(0, abs=1e-13 * solution.primal_value)
    assert solution.primal_value > 0
    assert solution.support_vectors.all()
    assert not solution.bounded.any()


def test_theorem_1_for_sparse_attention():
    """Each query has a regression on its own keys."""
    queries, keys, values = random(4, 4), random(9, 4), random(9, 3)
    seen = torch.rand(4, 9) < 0.5
    seen[:, 4] = True
    together = support_vector_expansion(queries, keys, values, training_sets=seen)
    for query, subset, expansion in zip(queries, seen, together, strict=True):
        expected = naive.softmax_attention(query[None], keys, values, subset[None])
        assert (expansion - expected).abs().max() < 1e-13


def test_complementary_slackness():
    """A small C and a wide tube: keys that are no support vectors, free ones, bounded ones."""
    # Of 40 seeds, 3 leave no key free.
    torch.manual_seed(1)
    keys, targets = random(24, 3), random(24, 2)
    solution = PrimalDualRegression(C=20.0, epsilon=0.5, tolerance=1e-13).fit(keys, targets)
    a, residuals = solution.coefficients, solution.residuals
    free = solution.support_vectors & ~solution.bounded
    assert free.any()
    assert solution.bounded.any()
    assert (~solution.support_vectors).any()
    assert (residuals[free] - 0.5 * a[free].sign()).abs().max() < 1e-7
    assert residuals[~solution.support_vectors].abs().max() < 0.5 + 1e-7
    assert (residuals * a.sign())[solution.bounded].min() > 0.5 - 1e-7
    assert a.abs().max() <= 20.0 * (1 + 1e-12)
    # The values are the coefficients over h.
    h = (keys @ keys.T / 3**0.5).exp().sum(1)
    torch.testing.assert_close(solution.log_normalizers, h.log())
    torch.testing.assert_close(solution.values * h.unsqueeze(1), a)


def polynomial(x, y):
    return (x @ y.T + 2).square()


def polynomial_features(x):
    squares = (x[:, :, None] * x[:, None, :]).flatten(1)
    return torch.cat((squares, 2 * x, torch.full((len(x), 1), 2.0, dtype=x.dtype)), dim=1)


@pytest.mark.parametrize(
    ("kernel", "phi"),
    [("softmax", ExponentialFeatureMap(2, 40)), ("linear", elu_feature_map), (polynomial, polynomial_features)],
    ids=["softmax", "linear", "one's own"],
)
def test_primal_layer_equals_its_expansion(kernel, phi):
    """f(x) = W Phi(T(x)) / h(x), and the primal's objective, with W written out."""
    keys, queries = random(5, 2), random(4, 2)
    bn = batch_normalization(scaling=False)
    solution = PrimalDualRegression(kernel, C=3.0, epsilon=0.1, transform=bn).fit(keys, random(5, 3))
    T = bn(keys)
    h = (phi(T(queries)) @ phi(T(keys)).T).sum(1, keepdim=True)
    weight = solution.primal_weight(phi)
    assert (phi(T(queries)) @ weight.T / h - solution.predict(queries)).abs().max() < 1e-11
    slack = (solution.residuals.abs() - 0.1).clamp(min=0).sum()
    assert (weight.square().sum() / 2 + 3.0 * slack).item() == pytest.approx(solution.primal_value, rel=1e-9)


def test_large_logits():
    """Keys whose h is exp(200)."""
    keys, values = torch.nn.functional.normalize(random(6, 4)) * 20, random(6, 2)
    targets, least_C = values_to_targets(keys, values, epsilon=0.1)
    assert least_C > 1e80
    solution = PrimalDualRegression(C=2 * least_C, epsilon=0.1).fit(keys, targets)
    assert (solution.values - values).abs().max() < 1e-8
