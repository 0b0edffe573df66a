"""The feature maps reproduce their kernels."""

import math

import pytest
import torch

from hf_primaldual.theory import ExponentialFeatureMap, elu_feature_map, feature_map_kernel


def random_points(count: int, dim: int) -> torch.Tensor:
    return torch.randn(count, dim, dtype=torch.float64)


@pytest.mark.parametrize(("dim", "degree"), [(1, 40), (2, 0), (2, 5), (3, 30)])
def test_exp_is_missed_by_less_than_the_bound(dim, degree):
    x, y = random_points(20, dim), random_points(20, dim)
    phi, expected = ExponentialFeatureMap(dim, degree), (x @ y.T / dim**0.5).exp()
    error, bound = (feature_map_kernel(phi)(x, y) - expected).abs(), phi.error_bound(x, y)
    assert (error <= bound + 1e-12 * expected.clamp(min=1)).all()
    if degree < 30:
        # A bound that says something: in the middle it is of the size of the error.
        assert error.median() > 0.05 * bound.median()
    else:
        assert bound.median() < 1e-12


def test_taylor_features_are_the_formula():
    x = torch.tensor([[0.5, -2.0]], dtype=torch.float64)
    phi = ExponentialFeatureMap(2, 3)
    assert phi.num_features == len(phi.exponents) == len({tuple(n) for n in phi.exponents.tolist()}) == 10
    for feature, (n1, n2) in zip(phi(x)[0].tolist(), phi.exponents.tolist(), strict=True):
        scaled = [value / 2**0.25 for value in (0.5, -2.0)]
        expected = scaled[0] ** n1 * scaled[1] ** n2 / math.sqrt(math.factorial(n1) * math.factorial(n2))
        assert feature == pytest.approx(expected, rel=1e-14)


def test_elu_feature_map():
    x = torch.tensor([[-2.0, 0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(elu_feature_map(x), torch.nn.functional.elu(x) + 1)
    # elu(x) + 1 rounds to zero here.
    assert elu_feature_map(torch.tensor(-50.0, dtype=torch.float64)).item() == pytest.approx(math.exp(-50), abs=0)
