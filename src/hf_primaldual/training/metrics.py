"""Accuracy as an `evaluate.Metric` that needs no network."""

import datasets
import evaluate
import numpy as np
from transformers import EvalPrediction


class Accuracy(evaluate.Metric):
    """Share of predictions that equal their reference, between 0 and 1; the metric of the UEA archive."""

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions and references: class indices, one for each example",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references):
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}


def compute_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """What Trainer's `compute_metrics` takes: logits of shape `(examples, classes)` and labels `(examples,)`."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return Accuracy().compute(predictions=logits.argmax(-1), references=prediction.label_ids)


__all__ = ["Accuracy", "compute_accuracy"]
