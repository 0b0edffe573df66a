"""Accuracy against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from transformers import EvalPrediction

from hf_primaldual.training.metrics import Accuracy, compute_accuracy


def test_accuracy_equals_scikit_learns():
    generator = np.random.default_rng(0)
    predictions, references = generator.integers(0, 4, 257), generator.integers(0, 4, 257)
    expected = accuracy_score(references, predictions)
    assert Accuracy().compute(predictions=predictions, references=references)["accuracy"] == pytest.approx(expected)


def test_accuracy_gathers_batches():
    metric = Accuracy()
    metric.add_batch(predictions=[0, 1, 2], references=[0, 1, 1])
    metric.add_batch(predictions=[1], references=[0])
    assert metric.compute()["accuracy"] == 0.5


@pytest.mark.parametrize("with_extra_outputs", [False, True])
def test_logits_are_reduced_to_classes(with_extra_outputs):
    logits = np.array([[0.1, 2.0, 0.0], [3.0, 1.0, 0.0]])
    predictions = (logits, np.zeros(1)) if with_extra_outputs else logits
    assert compute_accuracy(EvalPrediction(predictions, np.array([1, 2])))["accuracy"] == 0.5
