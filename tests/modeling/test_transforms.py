import pytest
import torch

from hf_primaldual.modeling.transforms_primal_dual import token_statistics
from tests.modeling.cases import MASKS


def exact(states, mask):
    """Mean and biased variance of each row's valid tokens in float64, and the gradient of a function of both."""
    states = states.detach().double().requires_grad_()
    rows = [
        row if mask is None else row[valid]
        for row, valid in zip(states, states if mask is None else mask, strict=True)
    ]
    mean = torch.stack([row.mean(0, keepdim=True) for row in rows])
    variance = torch.stack([row.var(0, correction=0, keepdim=True) for row in rows])
    return mean, variance, *torch.autograd.grad((mean * variance).sum(), states)


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("tokens", [2, 197])
@pytest.mark.parametrize("centre", [0.0, 1e3])
def test_statistics_do_not_cancel_when_the_mean_is_large(centre, tokens, mask_kind):
    mask = MASKS[mask_kind](3, tokens)
    if mask_kind in ("right", "left"):
        # A single token has no variance to compare.
        mask[:, :2] = mask[:, -2:] = True
    states = (torch.randn(3, tokens, 8) + centre).requires_grad_()
    mean, variance, centred = token_statistics(states, mask)
    (gradient,) = torch.autograd.grad((mean * variance).sum(), states)
    expected_mean, expected_variance, expected_gradient = exact(states, mask)

    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=1e-6)
    # Values around 1e3 are themselves 3e-5 apart in float32, so very small variances cannot be had better.
    torch.testing.assert_close(variance.double(), expected_variance, rtol=1e-4, atol=1e-4 * (tokens == 2))
    torch.testing.assert_close(centred, states - mean)
    assert gradient.isfinite().all()
    largest = expected_gradient.abs().max()
    assert (gradient - expected_gradient).abs().max() <= 1e-3 * largest


def test_statistics_of_constant_keys_are_exact():
    states = torch.full((1, 50, 4), 1.0e3, requires_grad=True)
    _, variance, _ = token_statistics(states, None)
    assert variance.eq(0).all()
    (gradient,) = torch.autograd.grad(variance.sum(), states)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("mask_kind", MASKS)
def test_statistics_of_half_precision_are_taken_in_float32(mask_kind):
    mask = MASKS[mask_kind](3, 500)
    states = (torch.randn(3, 500, 4) + 3).bfloat16()
    mean, variance, centred = token_statistics(states, mask)
    assert mean.dtype == variance.dtype == centred.dtype == torch.float32
    expected_mean, expected_variance, _ = exact(states, mask)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.double(), expected_variance, rtol=1e-4, atol=1e-5)


def test_without_variance_there_is_only_the_mean():
    states = torch.randn(2, 5, 4)
    mean, variance, centred = token_statistics(states, None, with_variance=False)
    assert torch.equal(mean, token_statistics(states, None)[0])
    assert variance is None
    assert centred is None
