"""The estimator as a classifier of aeon, by aeon's own checks: `make test-aeon`, which installs aeon whole."""

import pytest

pytest.importorskip("numba", reason="aeon's code needs numba, which `make test-aeon` installs")

from aeon.classification import BaseClassifier
from aeon.testing.estimator_checking import parametrize_with_checks

from hf_primaldual import PrimalDualTimeSeriesClassifier


class AeonClassifier(BaseClassifier):
    """Of collections (cases, channels, time), and of lists of arrays (channels, time) of any lengths."""

    _tags = {
        "X_inner_type": ["numpy3D", "np-list"],
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": True,
        "algorithm_type": "deeplearning",
    }

    def __init__(self, hidden_size=64, min_steps=300, num_train_epochs=40, random_state=None):
        self.hidden_size = hidden_size
        self.min_steps = min_steps
        self.num_train_epochs = num_train_epochs
        self.random_state = random_state
        super().__init__()

    def _fit(self, X, y):
        own = {"channels_first": True, "missing_values": "mean"}
        self.classifier_ = PrimalDualTimeSeriesClassifier(**self.get_params(), **own).fit(X, y)
        return self

    def _predict(self, X):
        return self.classifier_.predict(X)

    def _predict_proba(self, X):
        return self.classifier_.predict_proba(X)

    @classmethod
    def _get_test_params(cls, parameter_set="default"):
        return {"hidden_size": 16, "min_steps": 4, "num_train_epochs": 1}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([AeonClassifier])
def test_aeons_own_checks(check):
    check()
