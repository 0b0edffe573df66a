"""Losses of targets that are probabilities, as those of mixed images, and of classes that have weights."""

import torch
from torch.nn import functional as F


def soft_target_cross_entropy(
    outputs, labels: torch.Tensor, num_items_in_batch=None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    Trainer's `compute_loss_func` for class indices `(batch,)` and for probabilities `(batch, classes)`.

    Args:
        outputs: with `logits` of shape `(batch, classes)`.
        num_items_in_batch: the number of entries of all `labels` of a step, as Trainer counts them, those of a
            gradient accumulation and of other processes included; by default those at hand.
        label_smoothing: share of a label that is spread over all classes.
    """
    if num_items_in_batch is None:
        return F.cross_entropy(outputs.logits, labels, label_smoothing=label_smoothing)
    examples = num_items_in_batch / (labels.shape[1] if labels.ndim == 2 else 1)
    return F.cross_entropy(outputs.logits, labels, reduction="sum", label_smoothing=label_smoothing) / examples


def weighted_cross_entropy(
    class_weight: torch.Tensor, outputs, labels: torch.Tensor, num_items_in_batch=None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    Trainer's `compute_loss_func` once its first argument is bound, for class indices `(batch,)`.

    Args:
        class_weight: the weight of each class, `(classes,)`, on average 1 over the training set: then the loss is
            that of Trainer where all weights are alike.
        outputs, num_items_in_batch, label_smoothing: as for `soft_target_cross_entropy`.
    """
    options = {"weight": class_weight.to(outputs.logits.device), "label_smoothing": label_smoothing}
    total = F.cross_entropy(outputs.logits, labels, reduction="sum", **options)
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
