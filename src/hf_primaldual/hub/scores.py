"""Accuracy, loss and F1 of what a Trainer predicts, as results have them."""

import numpy as np
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


def token_losses_and_hits(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """
    Trainer's `preprocess_logits_for_metrics` of a language model, whose logits (batch, tokens, vocabulary) are too
    many to be kept: for each token but the first its cross-entropy in nats, given those before it, and whether it was
    the likeliest; (batch, tokens - 1, 2).
    """
    logits, targets = (logits[0] if isinstance(logits, tuple) else logits)[:, :-1].float(), labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return torch.stack((losses, logits.argmax(-1) == targets), dim=-1)


def compute_token_accuracy_and_loss(prediction: EvalPrediction) -> dict[str, float]:
    """`accuracy` and `loss` over all tokens that have a label, of what `token_losses_and_hits` gives."""
    counted = prediction.predictions[prediction.label_ids[:, 1:] != -100]
    loss, accuracy = counted.mean(axis=0, dtype=np.float64)
    return {"accuracy": float(accuracy), "loss": float(loss)}
