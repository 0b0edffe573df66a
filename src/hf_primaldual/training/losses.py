"""Losses of images: targets that are probabilities, and DeiT's hard distillation."""

from os import PathLike

import torch
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForImageClassification, BaseImageProcessor
from transformers.modeling_outputs import ImageClassifierOutput


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


class DistillationLoss:
    """
    Half the loss of the classes' head on the labels, half that of the distillation head on the teacher's classes.

    `ComparisonTrainer` shows it every batch before the model sees it. In evaluation it is the loss of the average of
    both heads on the labels. The `teacher` is a folder or an id of the Hub, a classifier of images of the student's
    size; `image_mean` and `image_std` of both processors say how to go from one normalization to the other.
    """

    def __init__(
        self, teacher: str | PathLike, classes: int, student_processor: BaseImageProcessor, label_smoothing: float
    ):
        self.teacher = AutoModelForImageClassification.from_pretrained(teacher).eval().requires_grad_(False)
        if self.teacher.config.num_labels != classes:
            raise ValueError(
                f"`teacher` must tell the {classes} classes of the data apart, but {teacher} knows "
                f"{self.teacher.config.num_labels}."
            )
        student_mean, student_std, teacher_mean, teacher_std = (
            torch.tensor(moment)[:, None, None]
            for processor in (student_processor, AutoImageProcessor.from_pretrained(teacher))
            for moment in (processor.image_mean, processor.image_std)
        )
        self._scale, self._shift = student_std / teacher_std, (student_mean - teacher_mean) / teacher_std
        self._label_smoothing, self._classes = label_smoothing, None

    @torch.no_grad()
    def see(self, inputs: dict[str, torch.Tensor], training: bool) -> None:
        """Asks the teacher about a batch, in training."""
        self._classes = None
        if training:
            images = inputs["pixel_values"]
            self.teacher.to(images.device)
            images = images * self._scale.to(images) + self._shift.to(images)
            self._classes = self.teacher(pixel_values=images).logits.argmax(-1)

    def __call__(self, outputs, labels: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
        """As `soft_target_cross_entropy`, for the outputs of a model with a distillation head."""
        if self._classes is None:
            return soft_target_cross_entropy(outputs, labels, num_items_in_batch)
        # In the form of the labels, whose entries `num_items_in_batch` counts.
        taught = self._classes if labels.ndim == 1 else F.one_hot(self._classes, labels.shape[1]).float()
        own, other = (ImageClassifierOutput(logits=x) for x in (outputs.cls_logits, outputs.distillation_logits))
        loss = soft_target_cross_entropy(own, labels, num_items_in_batch, self._label_smoothing)
        return (loss + soft_target_cross_entropy(other, taught, num_items_in_batch)) / 2
