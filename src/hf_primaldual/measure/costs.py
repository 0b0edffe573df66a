"""Everything that models or a checkpoint cost at one size of input."""

import os
from collections.abc import Callable, Mapping
from functools import partial
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

from .flops import count_flops
from .latency import inference, interleaved, training_step
from .memory import activation_memory, if_it_fits, peak_memory

# What `results.json` keeps of each model.
_IN_RESULTS = (
    "parameters", "peak_memory_bytes", "train_step_flops", "forward_flops", "train_step_ms", "inference_ms"
)  # fmt: skip


def efficiency_point(
    models: Mapping[str, PreTrainedModel],
    inputs: Mapping[str, torch.Tensor],
    baseline: str | None,
    tokens: int | None = None,
    rounds: int = 15,
) -> dict[str, Any]:
    """
    One entry of `efficiency` in `results.json`: what each model costs (`measure_together`), and the ratios of each to
    the model named `baseline`.

    Args:
        models: Models with a loss by name, on the device of the inputs.
        inputs: What they are called with; the main input has shape (batch, tokens, ...), and there are `labels`.
        baseline: The key of `models` that the ratios of the others are over; with None there are none.
        tokens: What the models attend over, where the main input's second axis is not that: patches of images.
        rounds: Timed calls of each.

    Raises:
        ValueError: `baseline` is not among the models, or images are given without `tokens`.
        MemoryError: A model does not fit into memory.
    """
    if baseline is not None and baseline not in models:
        raise ValueError(f"`baseline` must be one of the models, {', '.join(models)}; got {baseline!r}.")
    main_input = inputs[next(iter(models.values())).main_input_name]
    if tokens is None and main_input.ndim == 4:
        raise ValueError("`tokens` must be given for images, whose number of patches is the model's to choose.")
    point: dict[str, Any] = {"batch": main_input.shape[0], "tokens": tokens or main_input.shape[1], "ratios": {}}
    rows = measure_together(models, inputs, rounds=rounds)
    theirs = rows.get(baseline)
    for name, row in rows.items():
        if "does_not_fit" in row:
            raise MemoryError(f"{name} does not fit into memory: {row['does_not_fit']}")
        point[name] = {key: row[key] for key in _IN_RESULTS}
        if theirs is not None and name != baseline:
            point["ratios"][name] = {
                "inference": row["inference_ms"]["median"] / theirs["inference_ms"]["median"],
                "train_step": row["train_step_ms"]["median"] / theirs["train_step_ms"]["median"],
                "flops": row["forward_flops"] / theirs["forward_flops"],
                "memory": row["peak_memory_bytes"] / theirs["peak_memory_bytes"],
            }
    return point


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
        model_or_checkpoint: A module; or a checkpoint's folder or repository.
        inputs: Keyword arguments of the model; by default `make_inputs(model, tokens, batch)`.
        load: Passed on to `from_pretrained`, such as `attn_implementation` or `trust_remote_code`.
    """
    model: Any = model_or_checkpoint
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
        models: By name, on the device of the inputs; they are left in evaluation mode and without gradients.
        inputs: Keyword arguments; the first tensor's first axis is the batch. `labels` are left out in inference.
        training: Whether a training step, forward and backward, is measured too.
        rounds: Timed calls of each model, after warming up.

    Returns:
        For each name the figures that docs/efficiency.md lists, milliseconds with median and quartiles. A model that
        does not fit has `does_not_fit` with the reason, and what was measured before.
    """
    batch = next(iter(inputs.values())).shape[0]
    rows: dict[str, dict[str, Any]] = {name: {} for name in models}
    for name, model in models.items():
        reason = if_it_fits(partial(_count, model, inputs, training, rows[name])).does_not_fit
        model.zero_grad(set_to_none=True)
        if reason is not None:
            rows[name]["does_not_fit"] = reason
    fitting = {name: model for name, model in models.items() if "does_not_fit" not in rows[name]}
    modes: list[tuple[str, str, Callable[..., Callable[[], Any]]]]
    modes = [("train_step_ms", "trained_per_second", training_step)] if training else []
    modes.append(("inference_ms", "inference_per_second", inference))
    for milliseconds, per_second, call_of in modes:
        for model in models.values():
            model.train(call_of is training_step)
        calls = {name: call_of(model, inputs) for name, model in fitting.items()}
        for name, timing in (interleaved(calls, rounds=rounds) if calls else {}).items():
            rows[name] |= {milliseconds: timing.milliseconds(), per_second: batch / timing.median}
    for model in models.values():
        model.zero_grad(set_to_none=True)
    return rows


def _count(model: nn.Module, inputs: Mapping[str, Any], training: bool, row: dict[str, Any]) -> None:
    """Puts into `row` what is counted and not timed."""
    device = next(iter(inputs.values())).device
    row["parameters"] = count_parameters(model)
    if training:
        model.train()
        model.zero_grad(set_to_none=True)
        # From no gradients: the first step is the one that allocates them.
        row["peak_memory_bytes"] = peak_memory(training_step(model, inputs), device)
        model.zero_grad(set_to_none=True)
        row["activation_bytes"] = activation_memory(model, lambda: model(**inputs))
        row["train_step_flops"] = count_flops(model, **inputs, backward=True)
        row["backward_flops"] = row["train_step_flops"] - count_flops(model, **inputs)
    model.eval()
    row["inference_peak_bytes"] = peak_memory(inference(model, inputs), device)
    row["forward_flops"] = count_flops(model, **{name: each for name, each in inputs.items() if name != "labels"})


def count_parameters(model: nn.Module) -> int:
    """Number of parameters of a module, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_model(checkpoint: str | os.PathLike, **load: Any) -> PreTrainedModel:
    """A checkpoint's model, with its head where it was saved as a classifier; `load` goes to `from_pretrained`."""
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=load.get("trust_remote_code", False))
    architecture = (config.architectures or [""])[0]
    for auto_class in (AutoModelForImageClassification, AutoModelForSequenceClassification):
        if architecture.endswith(auto_class.__name__.removeprefix("AutoModel")):
            return auto_class.from_pretrained(checkpoint, **load)
    return AutoModel.from_pretrained(checkpoint, **load)


def make_inputs(model: PreTrainedModel, tokens: int | None = None, batch: int = 1) -> dict[str, torch.Tensor]:
    """
    Random inputs of a size, on the model's device, with labels for a classifier, and a second text for one of pairs.

    Args:
        model: Of texts (`input_ids`), series (`past_values`) or images (`pixel_values`).
        tokens: Length of texts and series; by default the longest that the model takes. Images have the size that the
            configuration names.
        batch: Rows.

    Raises:
        ValueError: For another kind of input, images of a number of tokens, or a length that is given nowhere.
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
    inputs = {kind: main.to(model.device, model.dtype if main.is_floating_point() else main.dtype)}
    matching = type(model).__name__.endswith("DocumentMatching")
    if matching:
        inputs["pair_input_ids"] = inputs[kind].flip(1)
    if matching or type(model).__name__.endswith("Classification"):
        inputs["labels"] = torch.zeros(batch, dtype=torch.long, device=model.device)
    return inputs
