"""
Recovery of a converted checkpoint without labels: the softmax original teaches it, on stock Trainer.

The loss compares the hidden states of each layer, and the embedding that the model is used for. The paper has no
distillation; the loss is our choice.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, Trainer

from .embeddings import EMBEDDINGS, token_mask

TRAINABLE = ("all", "attention")


def layer_errors(
    student: tuple[torch.Tensor, ...], teacher: tuple[torch.Tensor, ...], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """
    How far the hidden states of each layer are from the teacher's, over real tokens, as a share of the teacher's mean
    square.

    Args:
        student, teacher (`tuple[torch.Tensor]`): of shape `(batch, tokens, width)`, one for each layer.
        batch (`Mapping`): with `attention_mask` where there is padding.

    Returns:
        `torch.Tensor` of shape `(layers, batch)`.
    """
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        mask, theirs = token_mask(batch, theirs).float(), theirs.float()
        square = (theirs * mask).square().sum(dim=(1, 2))
        errors.append(((ours.float() - theirs) * mask).square().sum(dim=(1, 2)) / square)
    return torch.stack(errors)


class DistillationTrainer(Trainer):
    """
    Trainer of a model that shall give what another one gives, on examples without labels. Columns of labels are left
    out. The loss of an example is

        layers_weight * mean over layers of the error of the hidden states, as a share of the teacher's mean square
        + embedding_weight * (1 - cosine of the embeddings)

    It is a mean over examples, so that batches may be split over accumulation steps and processes. `evaluate` gives it
    as `eval_loss`, and the mean cosine as `eval_cosine`; `predict` gives the cosine of each example.

    Args:
        args: those of [`~transformers.Trainer`], the first being the student: a model of [`convert`], one of
            transformers with [`apply`], or either with an adapter of PEFT. Its dropout is its own.
        teacher (`PreTrainedModel`): the softmax original. It is put into evaluation mode and frozen.
        embedding (`str` or `Callable`): what the model is used for: `"mean"`, `"first"` or `"all"`, or a function, as
            in [`calibrate`].
        layers_weight (`float`), embedding_weight (`float`): of the terms.
        trainable (`str`): `"all"` weights that require gradients, or `"attention"`, those of them whose names hold
            `attention` or `attn`.
        kwargs: others of [`~transformers.Trainer`].

    Raises:
        ValueError: for examples that are none, a teacher that shares weights with the student, or weights of terms
            that leave no loss; from `train` and `evaluate`, for a teacher and a student of other shapes.
    """

    def __init__(
        self,
        *args: Any,
        teacher: PreTrainedModel,
        embedding: str | Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor] = "mean",
        layers_weight: float = 1.0,
        embedding_weight: float = 1.0,
        trainable: str = "all",
        **kwargs: Any,
    ):
        embed = EMBEDDINGS.get(embedding) if isinstance(embedding, str) else embedding
        if not callable(embed):
            raise ValueError(f"`embedding` must be one of {', '.join(EMBEDDINGS)}, or a function, got {embedding!r}.")
        self._embed = embed
        if min(layers_weight, embedding_weight) < 0 or layers_weight + embedding_weight == 0:
            raise ValueError(
                "`layers_weight` and `embedding_weight` must be at least 0 and not both 0, got "
                f"{layers_weight} and {embedding_weight}."
            )
        if trainable not in TRAINABLE:
            raise ValueError(f"`trainable` must be one of {', '.join(TRAINABLE)}, got {trainable!r}.")
        kwargs.setdefault("compute_metrics", mean_cosine)
        super().__init__(*args, **kwargs)
        for name in ("train_dataset", "eval_dataset"):
            dataset = getattr(self, name)
            if hasattr(dataset, "__len__") and not len(dataset):
                raise ValueError(f"`{name}` must hold some examples to distil with, got none.")
        own = {id(weight) for weight in self.model.parameters()}
        if any(id(weight) in own for weight in teacher.parameters()):
            raise ValueError(
                "`teacher` has weights of `model` in it, which would move with the student: load the original once "
                "more, or copy it (`copy.deepcopy`) before `apply`."
            )
        if trainable == "attention":
            freeze_all_but_attention(self.model)
        self.layers_weight, self.embedding_weight = layers_weight, embedding_weight
        # Placed, and cast under autocast, as the student is; without what only training needs.
        self.teacher = self.accelerator.prepare_model(teacher.requires_grad_(False).eval(), evaluation_mode=True)
        # The loss is a mean of examples, whatever the student's own loss takes.
        self.model_accepts_loss_kwargs = False

    def compare(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """
        Returns:
            The loss and the cosine to the teacher of each example, `(batch,)` each, and the student's output.
        """
        batch = {name: value for name, value in inputs.items() if not re.search(r"label", name)}
        with torch.no_grad():
            expected = self.teacher(**batch, output_hidden_states=True)
        output = model(**batch, output_hidden_states=True)
        wanted, found = self._embed(expected, batch), self._embed(output, batch)
        self._check_shapes(output.hidden_states, expected.hidden_states, found, wanted)
        cosine = nn.functional.cosine_similarity(found.flatten(1).float(), wanted.flatten(1).float())
        errors = layer_errors(output.hidden_states, expected.hidden_states, batch).mean(dim=0)
        return self.layers_weight * errors + self.embedding_weight * (1 - cosine), cosine, output

    @staticmethod
    def _check_shapes(
        student: Sequence[torch.Tensor] | None,
        teacher: Sequence[torch.Tensor] | None,
        embedding: torch.Tensor,
        wanted: torch.Tensor,
    ) -> None:
        if student is None or teacher is None:
            raise ValueError("`model` and `teacher` must return hidden states, by `output_hidden_states=True`.")
        if len(student) != len(teacher):
            raise ValueError(
                f"`model` and `teacher` must have as many layers, got {len(student) - 1} and {len(teacher) - 1}."
            )
        for place, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
            if ours.shape != theirs.shape:
                raise ValueError(
                    "`model` and `teacher` must have hidden states of one shape, (batch, tokens, width), got "
                    f"{tuple(ours.shape)} and {tuple(theirs.shape)} in place {place}."
                )
        if embedding.shape[1:] == (1,):
            raise ValueError(
                "`embedding` must have more than one number, whose cosine says how near they are; for a model of one "
                "logit pass a function of its last states."
            )
        if embedding.shape != wanted.shape:
            raise ValueError(
                f"`model` and `teacher` must have embeddings of one shape, got {tuple(embedding.shape)} and "
                f"{tuple(wanted.shape)}."
            )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """The mean over examples."""
        losses, _, output = self.compare(model, inputs)
        return (losses.mean(), output) if return_outputs else losses.mean()

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """The loss, and the cosine of each example, which is its own label: Trainer computes no metric without one."""
        with torch.no_grad(), self.compute_loss_context_manager():
            losses, cosine, _ = self.compare(model, self._prepare_inputs(inputs))
        return (losses.mean(), None, None) if prediction_loss_only else (losses.mean(), cosine, cosine)


def mean_cosine(prediction: EvalPrediction) -> dict[str, float]:
    """`cosine`, the mean over examples."""
    cosines: Any = prediction.predictions
    return {"cosine": float(cosines.mean())}


def freeze_all_but_attention(model: nn.Module) -> None:
    """
    Raises:
        ValueError: for a model without a trainable weight whose name tells that it is attention's.
    """
    kept = {
        name for name, weight in model.named_parameters() if weight.requires_grad and re.search(r"att(entio)?n", name)
    }
    if not kept:
        raise ValueError("`trainable`: no weight of `model` has `attention` or `attn` in its name; freeze by hand.")
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in kept)


__all__ = ["DistillationTrainer", "layer_errors"]
