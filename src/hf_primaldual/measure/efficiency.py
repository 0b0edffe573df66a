"""An attention beside its baseline at one size of input: operations, memory and time."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .flops import count_flops
from .latency import interleaved, ratio_of_medians
from .memory import peak_memory
from .parameters import count_parameters


def efficiency_point(
    models: Mapping[str, nn.Module],
    inputs: Mapping[str, torch.Tensor],
    attention: str,
    baseline: str,
    rounds: int = 15,
) -> dict[str, Any]:
    """
    One entry of `efficiency` in `results.json`, both models timed in turn.

    Args:
        models: a model with a loss for `attention` and for `baseline`, on the device of the inputs.
        inputs: what they are called with; the main input has shape (batch, tokens, ...), and there are `labels`.
        attention, baseline: keys of `models`; ratios are attention over baseline.
        rounds: timed calls of each.

    Returns:
        Per model parameters, FLOPs of the forward and of a training step, milliseconds of an inference and of a
        training step (forward and backward), bytes of memory at the peak of a training step; and the ratios.
    """
    main_input = inputs[models[attention].main_input_name]
    steps = {name: _training_step(model, inputs) for name, model in models.items()}
    point: dict[str, Any] = {"batch": main_input.shape[0], "tokens": main_input.shape[1]}
    for name, model in models.items():
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
    point["train_step_ratio"] = ratio_of_medians(step_times, attention, baseline)
    point["inference_ratio"] = ratio_of_medians(inference_times, attention, baseline)
    for ratio, figure in (("flops_ratio", "forward_flops"), ("memory_ratio", "peak_memory_bytes")):
        point[ratio] = point[attention][figure] / point[baseline][figure]
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
