"""Everything that a model or a checkpoint costs at one size of input."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from ..modeling.annealing_primal_dual import warn_unfinished
from .fits import if_it_fits
from .flops import count_flops, scalar_of
from .latency import interleaved
from .memory import activation_memory, peak_memory
from .parameters import count_parameters


def measure(
    model_or_checkpoint: nn.Module | str | os.PathLike,
    inputs: Mapping[str, torch.Tensor] | None = None,
    tokens: int | None = None,
    batch: int = 1,
    training: bool = True,
    rounds: int = 15,
    **load: Any,
) -> dict[str, Any]:
    """
    What one model costs: see `measure_together`.

    Args:
        model_or_checkpoint: a module; or a checkpoint's folder or repository, which is loaded with the class that it
            was saved from where that is a classifier, and else as `AutoModel`.
        inputs: keyword arguments of the model; by default `make_inputs(model, tokens, batch)`.
        tokens, batch: size of the inputs where they are not given.
        training: whether a training step is measured too.
        rounds: timed calls.
        load: passed on to `from_pretrained`, such as `attn_implementation` or `trust_remote_code`.
    """
    model = model_or_checkpoint
    if not isinstance(model, nn.Module):
        model = load_model(model, **load)
    elif load:
        raise ValueError(f"{', '.join(load)}: only for a checkpoint that is loaded, got a {type(model).__name__}.")
    inputs = make_inputs(model, tokens, batch) if inputs is None else inputs
    return measure_together({"model": model}, inputs, training, rounds)["model"]


def measure_together(
    models: Mapping[str, nn.Module], inputs: Mapping[str, torch.Tensor], training: bool = True, rounds: int = 15
) -> dict[str, dict[str, Any]]:
    """
    What each of several models costs on the same inputs, all timed in turn.

    Args:
        models: by name, on the device of the inputs; they are left in evaluation mode and without gradients.
        inputs: keyword arguments; the first tensor's first axis is the batch. `labels` are left out in inference.
        training: whether a training step, forward and backward, is measured too. The backward starts from the output's
            `loss`, or without one from the sum of its tensors.
        rounds: timed calls of each model, after warming up.

    Returns:
        For each name `parameters`; `forward_flops` and `inference_peak_bytes`; `inference_ms` with median and
        quartiles; `inference_per_second`, rows of the batch by the median. With `training` also `backward_flops`,
        `train_step_flops`, `activation_bytes` (what autograd keeps between the two), `peak_memory_bytes` (of a step
        that allocates its gradients), `train_step_ms` and `trained_per_second`. A model that does not fit has
        `does_not_fit` with the reason, and what was measured before.
    """
    batch = next(iter(inputs.values())).shape[0]
    rows: dict[str, dict[str, Any]] = {name: {} for name in models}
    for name, model in models.items():
        warn_unfinished(model, "measured")
        outcome = if_it_fits(lambda model=model, row=rows[name]: _counts(model, inputs, training, row))
        model.zero_grad(set_to_none=True)
        model.eval()
        if outcome.does_not_fit:
            rows[name]["does_not_fit"] = outcome.does_not_fit
    fitting = {name: model for name, model in models.items() if "does_not_fit" not in rows[name]}
    modes = [("inference_ms", "inference_per_second", _inference)]
    modes += [("train_step_ms", "trained_per_second", _step)] if training else []
    for milliseconds, per_second, make in modes:
        if not fitting:
            break
        for model in fitting.values():
            model.train(make is _step)
        timings = interleaved({name: make(model, inputs) for name, model in fitting.items()}, rounds=rounds)
        for name, timing in timings.items():
            rows[name] |= {milliseconds: timing.milliseconds(), per_second: batch / timing.median}
    for model in fitting.values():
        model.zero_grad(set_to_none=True)
        model.eval()
    return rows


def _counts(model: nn.Module, inputs: Mapping[str, torch.Tensor], training: bool, row: dict[str, Any]) -> None:
    device = next(iter(inputs.values())).device
    row["parameters"] = count_parameters(model)
    model.eval()
    row["forward_flops"] = count_flops(model, **_unlabelled(inputs))
    row["inference_peak_bytes"] = peak_memory(_inference(model, inputs), device)
    if training:
        model.train()
        row["train_step_flops"] = count_flops(model, **inputs, backward=True)
        row["backward_flops"] = row["train_step_flops"] - count_flops(model, **inputs)
        row["activation_bytes"] = activation_memory(model, lambda: model(**inputs))
        model.zero_grad(set_to_none=True)
        # From no gradients: the first step is the one that allocates them.
        row["peak_memory_bytes"] = peak_memory(_step(model, inputs), device)


def _step(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    def step():
        model.zero_grad(set_to_none=True)
        scalar_of(model(**inputs)).backward()

    return step


def _inference(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    def call():
        with torch.inference_mode():
            model(**_unlabelled(inputs))

    return call


def _unlabelled(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in inputs.items() if name != "labels"}


def load_model(checkpoint: str | os.PathLike, **load: Any) -> PreTrainedModel:
    """
    A checkpoint's model: a classifier of texts, series or images where it was saved from one, else as `AutoModel`.

    Args:
        checkpoint: folder or repository.
        load: passed on to `from_pretrained`.
    """
    trust = {key: value for key, value in load.items() if key == "trust_remote_code"}
    architectures = AutoConfig.from_pretrained(checkpoint, **trust).architectures or [""]
    auto_class = AutoModel
    if architectures[0].endswith("ForImageClassification"):
        auto_class = AutoModelForImageClassification
    elif architectures[0].endswith("ForSequenceClassification"):
        auto_class = AutoModelForSequenceClassification
    return auto_class.from_pretrained(checkpoint, **load)


def make_inputs(model: PreTrainedModel, tokens: int | None = None, batch: int = 1) -> dict[str, torch.Tensor]:
    """
    Random inputs of a size, on the model's device, with labels for a classifier.

    Args:
        model: of texts (`input_ids`), series (`past_values`) or images (`pixel_values`).
        tokens: length of texts and series; by default the longest that the model takes. Images have the size that the
            configuration names.
        batch: rows.

    Raises:
        ValueError: for another kind of input, images of a number of tokens, or a length that is given nowhere.
    """
    config, kind, generator = model.config, model.main_input_name, torch.Generator().manual_seed(0)
    if kind == "pixel_values":
        if tokens is not None:
            raise ValueError(f"`tokens` is for texts and series; images have the model's own size, got {tokens}.")
        height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        main = torch.randn(batch, config.num_channels, height, width, generator=generator)
    elif kind in ("input_ids", "past_values"):
        tokens = tokens or getattr(config, "max_position_embeddings", None)
        if tokens is None:
            raise ValueError(f"`tokens` must be given: {type(config).__name__} does not name a longest input.")
        if kind == "input_ids":
            main = torch.randint(1, config.vocab_size, (batch, tokens), generator=generator)
        else:
            main = torch.randn(batch, tokens, config.num_channels, generator=generator)
    else:
        raise ValueError(f"`inputs` must be given for {type(model).__name__}, whose main input is {kind!r}.")
    inputs = {kind: main.to(model.device)}
    if type(model).__name__.endswith("Classification"):
        inputs["labels"] = torch.zeros(batch, dtype=torch.long, device=model.device)
    return inputs


__all__ = ["load_model", "make_inputs", "measure", "measure_together"]
