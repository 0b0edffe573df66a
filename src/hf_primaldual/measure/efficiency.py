"""Attentions beside their baseline at one size of input: operations, memory and time."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..modeling.annealing_primal_dual import warn_unfinished
from .flops import count_flops
from .latency import interleaved, ratio_of_medians
from .memory import peak_memory
from .parameters import count_parameters


def efficiency_point(
    models: Mapping[str, nn.Module],
    inputs: Mapping[str, torch.Tensor],
    baseline: str,
    tokens: int | None = None,
    rounds: int = 15,
) -> dict[str, Any]:
    """
    One entry of `efficiency` in `results.json`, all models timed in turn.

    Args:
        models: models with a loss by name, on the device of the inputs: the baseline and the attentions beside it.
        inputs: what they are called with; the main input has shape (batch, tokens, ...), and there are `labels`.
        baseline: the key of `models` that the ratios of the others are over.
        tokens: what the models attend over, where the main input's second axis is not that: patches of images.
        rounds: timed calls of each.

    Returns:
        Per model parameters, FLOPs of the forward and of a training step, milliseconds of an inference and of a
        training step (forward and backward), bytes of memory at the peak of a training step; and the ratios.

    Raises:
        ValueError: `baseline` is not among the models, or images are given without `tokens`.
    """
    if baseline not in models:
        raise ValueError(f"`baseline` must be one of the models, {', '.join(models)}; got {baseline!r}.")
    main_input = inputs[models[baseline].main_input_name]
    if tokens is None and main_input.ndim == 4:
        raise ValueError("`tokens` must be given for images, whose number of patches is the model's to choose.")
    steps = {name: _training_step(model, inputs) for name, model in models.items()}
    point: dict[str, Any] = {"batch": main_input.shape[0], "tokens": tokens or main_input.shape[1]}
    for name, model in models.items():
        warn_unfinished(model, "measured")
        model.train()
        model.zero_grad(set_to_none=True)
        # Before anything else has left gradients: the first step is the one that allocates them.
        point[name] = {
            "parameters": count_parameters(model),
            "peak_memory_bytes": peak_memory(steps[name], main_input.device),
            "train_step_flops": count_flops(model, **inputs, backward=True),
        }
    step_times = interleaved(steps, rounds=rounds)
    for name, model in models.items():
        model.eval()
        point[name]["forward_flops"] = count_flops(model, **inputs)
    inference_times = interleaved({name: _inference(model, inputs) for name, model in models.items()}, rounds=rounds)
    for name in models:
        point[name]["train_step_ms"] = step_times[name].milliseconds()
        point[name]["inference_ms"] = inference_times[name].milliseconds()
    point["ratios"] = {
        name: {
            "inference": ratio_of_medians(inference_times, name, baseline),
            "train_step": ratio_of_medians(step_times, name, baseline),
            "flops": point[name]["forward_flops"] / point[baseline]["forward_flops"],
            "memory": point[name]["peak_memory_bytes"] / point[baseline]["peak_memory_bytes"],
        }
        for name in models
        if name != baseline
    }
    return point


def _training_step(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    def step():
        model.zero_grad(set_to_none=True)
        model(**inputs).loss.backward()

    return step


def _inference(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    without_labels = {name: tensor for name, tensor in inputs.items() if name != "labels"}

    def call():
        with torch.inference_mode():
            model(**without_labels)

    return call
