import itertools

import pytest
import torch

from hf_primaldual.modeling.downsampling_primal_dual import downsample
from hf_primaldual.modeling.training_sets_primal_dual import check_mask
from tests.modeling.cases import holes, right_padding
from tests.reference import naive

BATCH, WIDTH = 3, 5


def reference_points(row, valid, scale, points, sampling):
    windows = naive.windows_by_points(valid, points) if scale is None else naive.windows_by_scale(valid, scale)
    points, kept = naive.sample(row, windows, sampling, seed=3)
    return points[kept]


AMOUNTS = [{"scale": s} for s in (1, 2, 5, 100)] + [{"points": p} for p in (1, 4, 10, 23, 100)]


@pytest.mark.parametrize("make_mask", [None, right_padding, holes], ids=["unmasked", "padded", "holes"])
@pytest.mark.parametrize("amount", AMOUNTS, ids=["-".join(map(str, a.items())) for a in AMOUNTS])
def test_the_points_that_count_are_those_of_the_formulas(amount, make_mask):
    for tokens, sampling in itertools.product((1, 10, 23), ("average", "stride", "random")):
        mask = None if make_mask is None else make_mask(BATCH, tokens)
        hidden_states = torch.randn(BATCH, tokens, WIDTH, dtype=torch.float64)
        points, kept = downsample(hidden_states, mask, sampling=sampling, seed=3, **amount)
        number = -(-tokens // amount["scale"]) if "scale" in amount else min(amount["points"], tokens)
        assert points.shape == (BATCH, number, WIDTH)
        assert kept is None or kept.shape == points.shape[:2]
        whole = torch.ones(BATCH, tokens, dtype=torch.bool)
        for row in range(BATCH):
            actual = points[row] if kept is None else points[row][kept[row]]
            valid = (whole if mask is None else mask)[row]
            expected = reference_points(hidden_states[row], valid, amount.get("scale"), amount.get("points"), sampling)
            torch.testing.assert_close(actual, expected)


def test_a_window_without_a_real_token_is_masked_and_finite():
    mask = torch.tensor([[1, 1, 0, 0, 1, 0]], dtype=torch.bool)
    for sampling in ("average", "stride", "random", "conv"):
        filters = torch.full((2, WIDTH), 0.5)
        points, kept = downsample(torch.randn(1, 6, WIDTH), mask, scale=2, sampling=sampling, filters=filters)
        assert kept.tolist() == [[True, False, True]]
        assert points.isfinite().all()


def test_a_strided_point_is_a_token_itself():
    hidden_states = torch.randn(1, 9, WIDTH)
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0, 1]], dtype=torch.bool)
    points, _ = downsample(hidden_states, mask, scale=3, sampling="stride")
    assert torch.equal(points[0], hidden_states[0, [1, 3, 8]])


def test_a_mask_becomes_booleans_and_one_that_masks_nothing_none():
    assert check_mask(torch.ones(2, 3), torch.zeros(2, 3, 1)) is None
    mask = check_mask(torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.zeros(2, 3, 1))
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 1, 1, 3)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError) as error:
        check_mask(torch.ones(shape), torch.zeros(2, 3, 1))
    assert all(part in str(error.value) for part in ("`attention_mask`", "(2, 3)", str(shape)))


def test_rows_that_are_all_padding_are_refused_by_their_numbers():
    mask = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 0]])
    with pytest.raises(ValueError, match=r"`attention_mask` must keep at least one token.*rows \[1, 3\]"):
        check_mask(mask, torch.zeros(4, 2, 1))
