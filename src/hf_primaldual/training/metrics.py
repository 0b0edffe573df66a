"""Accuracy, and the loss of a whole set."""

import torch
from transformers import EvalPrediction


def compute_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """What Trainer's `compute_metrics` takes: logits of shape `(examples, classes)` and labels `(examples,)`."""
    logits, labels = _logits_and_labels(prediction)
    return {"accuracy": (logits.argmax(-1) == labels).double().mean().item()}


def compute_accuracy_and_loss(prediction: EvalPrediction) -> dict[str, float]:
    """
    As `compute_accuracy`, with the mean cross-entropy over all examples as `loss`, in the place of Trainer's.

    Trainer's own is a mean over batches: several processes fill the last ones up with examples that it counts again.
    """
    logits, labels = _logits_and_labels(prediction)
    loss = torch.nn.functional.cross_entropy(logits.float(), labels.long()).item()
    return {**compute_accuracy(prediction), "loss": loss}


def _logits_and_labels(prediction: EvalPrediction) -> tuple[torch.Tensor, torch.Tensor]:
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return torch.as_tensor(logits), torch.as_tensor(prediction.label_ids)


__all__ = ["compute_accuracy", "compute_accuracy_and_loss"]
