"""Accuracy and loss against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss
from transformers import EvalPrediction

from hf_primaldual.training.trainer import compute_accuracy_and_loss


@pytest.mark.parametrize("with_extra_outputs", [False, True])
def test_accuracy_and_loss_are_means_over_all_examples(with_extra_outputs):
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(57, 4)).astype(np.float32), generator.integers(0, 4, 57)
    probabilities = np.exp(logits.astype(np.float64))
    expected = log_loss(labels, probabilities / probabilities.sum(1, keepdims=True), labels=range(4))
    predictions = (logits, np.zeros(1)) if with_extra_outputs else logits
    found = compute_accuracy_and_loss(EvalPrediction(predictions, labels))
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["accuracy"] == accuracy_score(labels, logits.argmax(1))
