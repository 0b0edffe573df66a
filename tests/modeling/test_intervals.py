"""Attention-BN and Attention-SH on intervals of keys, against the formulas."""

import pytest
import torch

from hf_primaldual import PrimalDualConfig
from hf_primaldual.modeling import causal_windows_primal_dual, intervals_primal_dual
from hf_primaldual.modeling.causal_attention_primal_dual import PrimalDualCausalAttention
from hf_primaldual.modeling.causal_windows_primal_dual import causal_downsampled_attention, few_queries
from hf_primaldual.modeling.intervals_primal_dual import Intervals, fold_over_intervals, running_statistics
from tests.reference import naive

# More keys than the ramp of the scaling.
TOKENS, HEADS, DIM = 38, 2, 4
PLACE = torch.arange(TOKENS)
INTERVALS = {
    "causal": (torch.zeros(2, TOKENS).long(), PLACE.expand(2, -1)),
    "window": ((PLACE - 30).clamp(min=0).expand(1, -1), PLACE.expand(1, -1)),
    "padded on the left": (
        torch.where(torch.tensor([[0], [9]]) > PLACE, PLACE, torch.tensor([[0], [9]])),
        PLACE.expand(2, -1),
    ),
    "prefix": (torch.zeros(1, TOKENS).long(), PLACE.clamp(min=20).expand(1, -1)),
    "local": ((PLACE - 8).clamp(min=0).expand(1, -1), (PLACE + 8).clamp(max=TOKENS - 1).expand(1, -1)),
    "one query": (torch.tensor([[0], [9]]), torch.full((2, 1), TOKENS - 1)),
}


@pytest.fixture(autouse=True)
def _short_chunks(request, monkeypatch):
    if "running" not in request.node.name:
        monkeypatch.setattr(intervals_primal_dual, "CHUNK", 8)


def states(queries=TOKENS, heads=HEADS, dtype=torch.double):
    torch.manual_seed(0)
    query = torch.randn(2, queries, heads, DIM)
    key = torch.randn(2, TOKENS, HEADS, DIM) + torch.randn(HEADS, DIM)
    value = torch.randn(2, TOKENS, HEADS, DIM)
    return [each.to(dtype).requires_grad_() for each in (query, key, value)]


def softmax(query, key, value, intervals):
    groups = query.shape[2] // key.shape[2]
    key, value = (each.repeat_interleave(groups, dim=2) for each in (key, value))
    keep = Intervals(*intervals).keep(key.shape[1]).unsqueeze(1)
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=keep)
    return output.transpose(1, 2)


def reference(query, key, value, intervals, **how):
    groups = query.shape[2] // key.shape[2]
    rows = []
    for row, (q, k, v) in enumerate(zip(query, key, value, strict=True)):
        first, last = (places[min(row, len(places) - 1)].tolist() for places in intervals)
        heads = [
            naive.interval_attention(q[:, h], k[:, h // groups], v[:, h // groups], first, last, **how)
            for h in range(query.shape[2])
        ]
        rows.append(torch.stack(heads, dim=1))
    return torch.stack(rows)


def assert_equal(actual, expected, inputs, tolerance):
    weights = torch.randn_like(expected)
    for name, got, wanted in zip(
        ("output", "query", "key", "value"),
        (actual, *torch.autograd.grad((actual * weights).sum(), inputs)),
        (expected, *torch.autograd.grad((expected * weights).sum(), inputs)),
        strict=True,
    ):
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max(), name


@pytest.mark.parametrize(
    ("kind", "scaling"), [*((kind, True) for kind in INTERVALS), ("causal", 0.5), ("causal", False)]
)
def test_batch_norm_over_intervals_equals_the_formula(kind, scaling):
    intervals = INTERVALS[kind]
    # Two query heads for each of the keys'.
    inputs = states(queries=intervals[0].shape[1], heads=2 * HEADS)
    is_causal = kind != "local"
    given = None if kind == "causal" else Intervals(*intervals)
    query = fold_over_intervals(inputs[0], inputs[1], given, 0.7, scaling, 0.05, is_causal)
    actual = softmax(query, *inputs[1:], intervals)
    expected = reference(*inputs, intervals, statistics=(0.7, float(scaling), 0.05), is_causal=is_causal)
    assert_equal(actual, expected, inputs, 1e-10)


def test_a_beta_of_each_channel_gets_its_gradient():
    query, key, value = states()
    beta = torch.randn(HEADS, DIM, dtype=torch.double, requires_grad=True)
    actual = softmax(fold_over_intervals(query, key, None, beta, True, 0.05), key, value, INTERVALS["causal"])
    heads = [
        reference(
            query[:, :, [h]], key[:, :, [h]], value[:, :, [h]], INTERVALS["causal"], statistics=(beta[h], 1, 0.05)
        )
        for h in range(HEADS)
    ]
    weights = torch.randn_like(actual)
    (of_beta,) = torch.autograd.grad((actual * weights).sum(), beta)
    (expected,) = torch.autograd.grad((torch.cat(heads, dim=2) * weights).sum(), beta)
    torch.testing.assert_close(of_beta, expected)


WINDOWED = {
    "flash": {},
    "blocks": {"_has_flash": lambda query: False, "BLOCK": 12},
    "few queries": None,
}


@pytest.mark.parametrize("statistics", [None, (0.7, 1, 0.05)], ids=["sh", "bn+sh"])
@pytest.mark.parametrize("scale", [2, 5, 100])
@pytest.mark.parametrize("way", WINDOWED)
def test_causal_windows_equal_the_formula(way, scale, statistics, monkeypatch):
    inputs = states()
    if WINDOWED[way] is None:
        intervals = Intervals(*INTERVALS["padded on the left"])
        actual, _ = few_queries(*inputs, intervals, scale, DIM**-0.5, fold=statistics)
        first = INTERVALS["padded on the left"][0].amax(dim=1)
    else:
        for name, value in WINDOWED[way].items():
            monkeypatch.setattr(causal_windows_primal_dual, name, value)
        actual = causal_downsampled_attention(*inputs, scale, DIM**-0.5, fold=statistics)
        intervals, first = INTERVALS["causal"], [0, 0]
    expected = reference(*inputs, intervals, scale=scale, statistics=statistics)
    # What comes before the first real token is padding.
    kept = torch.as_tensor(first).unsqueeze(-1) <= PLACE
    assert_equal(actual[kept], expected[kept], inputs, 1e-10)


@pytest.mark.parametrize("sampling", ["stride", "random"])
def test_a_window_may_be_sampled(sampling):
    query, key, value = states()
    how = {"sampling": sampling, "seed": 3}
    actual = causal_downsampled_attention(query, key, value, 5, DIM**-0.5, **how)
    chosen = [5 * window + (0 if sampling == "stride" else naive.pseudo_random(window, 3) % 5) for window in range(7)]
    for i in (4, 5, 37):
        points = [*chosen[: i // 5], *range(i // 5 * 5, i + 1)]
        for head in range(HEADS):
            expected = naive.query_attention(query[0, i, head], key[0, points, head], value[0, points, head])
            torch.testing.assert_close(actual[0, i, head], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1, 5])
def test_half_precision_is_as_near_as_its_rounding(scale, dtype):
    inputs = states(dtype=dtype)
    if scale == 1:
        query = fold_over_intervals(*inputs[:2], None, 1.0, True, 1e-5)
        actual = softmax(query, *inputs[1:], INTERVALS["causal"])
    else:
        actual = causal_downsampled_attention(*inputs, scale, DIM**-0.5, fold=(1.0, True, 1e-5))
    wide = [each.detach().double().requires_grad_() for each in inputs]
    expected = reference(*wide, INTERVALS["causal"], scale=scale, statistics=(1.0, 1, 1e-5))
    weights = torch.randn_like(expected)
    gradients = torch.autograd.grad((actual * weights).sum(), inputs)
    for got, wanted in zip(
        (actual, *gradients), (expected, *torch.autograd.grad((expected * weights).sum(), wide)), strict=True
    ):
        assert got.dtype == dtype
        assert (got.double() - wanted).norm() <= 20 * torch.finfo(dtype).eps * wanted.norm()


def test_keys_that_hardly_vary_overflow_no_half_precision():
    query, key, value = (each.detach() for each in states(dtype=torch.float16))
    key[..., 0] = 3.0
    query = fold_over_intervals(100 * query, key, None, 1.0, True, 1e-5)
    assert query.isfinite().all()
    assert softmax(query, key, value, INTERVALS["causal"]).isfinite().all()


def test_running_statistics_of_a_mean_that_is_large_against_the_deviation_cancel_nothing():
    torch.manual_seed(0)
    key = 1000 + torch.randn(2, 300, HEADS, DIM)
    # As a sink is, far from all that follow.
    key[:, 0] += 500
    mean, variance = running_statistics(key)
    wide = key.double()
    for i in (0, 1, 63, 64, 200, 299):
        deviation = wide[:, : i + 1].var(dim=1, correction=0).sqrt()
        assert ((mean[:, i] - wide[:, : i + 1].mean(dim=1)).abs() <= 1e-3 * deviation + 1e-4).all()
        torch.testing.assert_close(variance[:, i].double(), deviation.square(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 5])
def test_nothing_that_comes_later_is_seen_not_even_by_rounding(scale):
    query, key, value = (each.detach() for each in states(dtype=torch.float32))

    def attend(key, value):
        if scale == 1:
            return softmax(fold_over_intervals(query, key, None, 1.0, True, 1e-5), key, value, INTERVALS["causal"])
        return causal_downsampled_attention(query, key, value, scale, DIM**-0.5, fold=(1.0, True, 1e-5))

    expected = attend(key, value)
    later = [torch.cat((states[:, :23], 1e3 * torch.randn_like(states[:, 23:])), dim=1) for states in (key, value)]
    actual = attend(*later)
    assert torch.equal(actual[:, :23], expected[:, :23])
    assert not torch.equal(actual[:, 23:], expected[:, 23:])


@pytest.mark.parametrize("pair", [("softmax", "bn"), ("sh", "bn+sh")], ids="-".join)
def test_statistics_keep_two_tensors_of_the_keys_size(pair):
    def kept(preset):
        layer = PrimalDualCausalAttention(PrimalDualConfig(attention=preset, hidden_size=64, num_attention_heads=8))
        # Held, so that no two of them have the same address.
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: tensors.append(tensor) or tensor, lambda kept: kept
        ):
            layer(torch.randn(1, 512, 64))
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return sum(storages.values()) / (512 * 64 * 4)

    without, with_statistics = map(kept, pair)
    # On a GPU kernels keep a little more of blocks.
    assert with_statistics - without < 2.3
