"""Accuracy, loss and F1 of what a Trainer predicts, as results have them."""

import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import EvalPrediction


def compute_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """
    What Trainer's `compute_metrics` takes: logits (examples, classes), which may have others behind, and labels. Where
    those are zeros and ones (examples, classes), all of an example must be right; and `f1` is their micro F1.
    """
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    if prediction.label_ids.ndim == 1:
        return {"accuracy": float((logits.argmax(-1) == prediction.label_ids).mean())}
    labels, answers = prediction.label_ids > 0.5, logits > 0
    f1 = f1_score(labels, answers, average="micro", zero_division=0.0)
    return {"accuracy": float(accuracy_score(labels, answers)), "f1": float(f1)}


def compute_accuracy_and_loss(
    prediction: EvalPrediction, class_weight: torch.Tensor | None = None
) -> dict[str, float]:
    """
    As `compute_accuracy`, with the mean cross-entropy over all examples as `loss`, in the place of Trainer's; each
    counts by the weight of its class, if there are any.

    Trainer's own is a mean over batches: several processes fill the last ones up with examples that it counts again.
    """
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    logits, labels = torch.as_tensor(logits).float(), torch.as_tensor(prediction.label_ids)
    if labels.ndim == 1:
        loss = torch.nn.functional.cross_entropy(logits, labels.long(), weight=class_weight)
    else:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    return {**compute_accuracy(prediction), "loss": loss.item()}
