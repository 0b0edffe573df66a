"""The feature maps reproduce their kernels."""

import math

import pytest
import torch

from hf_primaldual.theory import ExponentialFeatureMap, elu_feature_map, feature_map_kernel
from hf_primaldual.theory.feature_maps import log_kernel


def random_points(count: int, dim: int) -> torch.Tensor:
    return torch.randn(count, dim, dtype=torch.float64)


@pytest.mark.parametrize("dim", [1, 3])
def test_taylor_map_reproduces_exp(dim):
    x, y = random_points(7, dim), random_points(5, dim)
    expected = (x @ y.T / dim**0.5).exp()
    actual = feature_map_kernel(ExponentialFeatureMap(dim, degree=40 if dim < 3 else 30))(x, y)
    assert ((actual - expected).abs() / expected.clamp(min=1)).max() < 1e-12


@pytest.mark.parametrize("degree", [0, 5])
def test_error_stays_below_its_bound(degree):
    x, y = random_points(20, 2), random_points(20, 2)
    phi = ExponentialFeatureMap(2, degree)
    error = (phi(x) @ phi(y).T - (x @ y.T / 2**0.5).exp()).abs()
    assert (error <= phi.error_bound(x, y) + 1e-12).all()
    # A bound that says something: in the middle it is of the size of the error.
    assert error.median() > 0.05 * phi.error_bound(x, y).median()


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
    assert elu_feature_map(torch.tensor(-50.0, dtype=torch.float64)).item() == pytest.approx(math.exp(-50))


def test_linear_kernel_is_that_of_its_map():
    x, y = random_points(4, 3), random_points(6, 3)
    torch.testing.assert_close(log_kernel("linear", x, y).exp(), elu_feature_map(x) @ elu_feature_map(y).T)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2), "`dim` must be at least 1, got 0"),
        ((2, -1), "`degree` must be at least 0, got -1"),
        ((64, 8), "`degree` 8 for `dim` 64 would need"),
    ],
)
def test_refuses_maps_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExponentialFeatureMap(*arguments)


def tanh_features(x):
    return x.tanh()


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("gaussian", "`kernel` must be 'softmax', 'linear' or a function of x and y, got 'gaussian'"),
        (feature_map_kernel(tanh_features), "`kernel` tanh_features must be finite and not negative"),
        (lambda x, y: x.sum(1), r"must return shape \(4, 5\), got \(4,\)"),
    ],
)
def test_refuses_what_is_no_kernel(kernel, message):
    with pytest.raises(ValueError, match=message):
        log_kernel(kernel, random_points(4, 3), random_points(5, 3))
