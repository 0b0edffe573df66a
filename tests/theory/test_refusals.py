"""What is no regression, no kernel and no attention is refused with one sentence."""

import pytest
import torch

from hf_primaldual import PrimalDualTimeSeriesConfig, PrimalDualTimeSeriesForSequenceClassification
from hf_primaldual.theory import (
    ConvergenceError,
    ExponentialFeatureMap,
    PrimalDualRegression,
    PrimalLayer,
    dual_variables,
    feature_map_kernel,
    plot_dual_variables,
    support_vector_expansion,
)
from hf_primaldual.theory.feature_maps import log_kernel
from tests.modeling.series import series_batch, small_model
from tests.theory.whitening import Whitening

Q, K, V = torch.ones(3, 2), torch.arange(8.0).view(4, 2) / 8, torch.ones(4, 1)
NONE_FOR_1 = torch.tensor([True, False, True]).unsqueeze(1).expand(3, 4)
NAN = torch.tensor([[1.0], [torch.nan]])


def fit(keys, targets, *kernel, **arguments):
    return PrimalDualRegression(*kernel, **arguments).fit(keys, targets)


def tanh_features(x):
    return x.tanh()


def variables(attention, **arguments):
    batch = series_batch()
    return dual_variables(small_model(attention=attention), batch, **arguments)


CALLS = [
    (lambda: fit(K, V, C=0), "`C` must be finite and above 0, got 0"),
    (lambda: fit(K, V, C=float("inf")), "`C` must be finite and above 0, got inf"),
    (lambda: fit(K, V, epsilon=float("nan")), "`epsilon` must be finite and at least 0, got nan"),
    (lambda: fit(K, V, max_iterations=0), "`max_iterations` must be finite and at least 1, got 0"),
    (lambda: fit(V[:, 0], V), r"`keys` must have shape \(rows, columns\), none of them 0, got \(4,\)"),
    (lambda: fit(K[:0], V[:0]), r"`keys` must have shape \(rows, columns\), .* got \(0, 2\)"),
    (lambda: fit(Q, V), r"`targets` must have shape \(3, columns\), .* got \(4, 1\)"),
    (lambda: fit(NAN, V[:2]), "`keys` must be finite, got nan at row 1, column 0"),
    (lambda: fit(-Q, V[:3], lambda x, y: x.relu() @ y.relu().T), "must be positive for a key with itself, got 0"),
    (lambda: fit(1e3 * K, V), "`keys` must not make h overflow, got log h = "),
    (
        lambda: support_vector_expansion(Q, K, V, training_sets=NONE_FOR_1.T),
        r"`training_sets` must have shape \(queries, keys\) = \(3, 4\), got \(4, 3\)",
    ),
    (lambda: support_vector_expansion(Q, K, V, training_sets=NONE_FOR_1), "but none counts for query 1"),
    (lambda: ExponentialFeatureMap(0, 2), "`dim` must be at least 1, got 0"),
    (lambda: ExponentialFeatureMap(2, -1), "`degree` must be at least 0, got -1"),
    (lambda: ExponentialFeatureMap(64, 8), "`degree` 8 for `dim` 64 would need"),
    (lambda: log_kernel("gaussian", Q, K), "must be 'softmax', 'linear' or a function of x and y, got 'gaussian'"),
    (lambda: log_kernel(feature_map_kernel(tanh_features), Q, -K), "tanh_features must be finite and not negative"),
    (lambda: log_kernel(lambda x, y: x.sum(1), Q, K), r"must return shape \(3, 4\), got \(3,\)"),
    (lambda: dual_variables(torch.nn.Linear(2, 2), {}), "layers of PrimalDualAttention, got a Linear without"),
    (lambda: variables("softmax", layer=2), "`layer` must be 0 to 1, got 2"),
    (lambda: variables("sparse"), r"layer 0 is sparse \('sparse'\): each query has a regression of its own"),
    (lambda: variables("softmax", layer=1)[0].support_vectors(1), "`tolerance` must be at least 0 and below 1, got 1"),
    (lambda: plot_dual_variables(variables("softmax"), row=4), "`row` must be 0 to 3, got 4"),
    (lambda: plot_dual_variables([]), "`result` must hold at least one layer, got an empty list"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message for _, message in CALLS])
def test_a_call_that_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_convergence_is_an_error_with_its_gap():
    with pytest.raises(ConvergenceError, match=r"stopped after 2 iterations at a relative duality gap of \d"):
        fit(torch.randn(20, 2), torch.randn(20, 2), C=1e3, epsilon=0.01, max_iterations=2)


def test_transforms_that_a_checkpoint_could_not_name(tmp_path):
    PrimalLayer(transforms=(Whitening,)).fields()
    impostor = type("Whitening", (torch.nn.Module,), {"__module__": "elsewhere.whitening"})
    with pytest.raises(ValueError, match=r"another class named 'whitening\.Whitening'"):
        PrimalLayer(transforms=(impostor,)).fields()
    homeless = type("Homeless", (Whitening,), {"__module__": "__main__"})
    fields = PrimalLayer(transforms=(homeless,)).fields()
    model = PrimalDualTimeSeriesForSequenceClassification(PrimalDualTimeSeriesConfig(**fields))
    with pytest.raises(ValueError, match="file of its own"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
