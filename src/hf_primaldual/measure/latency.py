"""Time several candidates in turn, so that a drifting clock frequency touches all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

# A sample shorter than this measures the clock and the scheduler rather than the candidate.
MINIMUM_SAMPLE_SECONDS = 0.005
# Calls repeated inside a sample are limited: a candidate faster than this is timed as if it took this long.
_SHORTEST_CALL_SECONDS = 1e-6


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one sample a round; each is the mean over `repeats` calls made one after the other."""

    samples: tuple[float, ...]
    repeats: int

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    def milliseconds(self) -> dict[str, float]:
        """Median and quartiles in milliseconds, as `results.json` keeps them."""
        first, third = np.quantile(self.samples, (0.25, 0.75))
        return {"median": 1e3 * self.median, "q1": 1e3 * float(first), "q3": 1e3 * float(third)}


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    rounds: int = 30,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """
    Time the candidates, calls without arguments, in turn: A B C, then C B A, and so on.

    Each of the `rounds` samples repeats its candidate often enough to last some milliseconds, judged by the fastest of
    `warmup` untimed calls. CUDA is waited for before each reading of the clock if this process uses it.

    Raises:
        ValueError: There is no candidate, or `rounds` or `warmup` is below 1.
    """
    if not candidates:
        raise ValueError("nothing to time: candidates is empty")
    if rounds < 1 or warmup < 1:
        raise ValueError(f"rounds and warmup must be at least 1, not {rounds} and {warmup}")
    repeats = {}
    for name, candidate in candidates.items():
        fastest = min(_seconds_per_call(candidate, 1, clock) for _ in range(warmup))
        fastest = min(max(fastest, _SHORTEST_CALL_SECONDS), MINIMUM_SAMPLE_SECONDS)
        repeats[name] = math.ceil(MINIMUM_SAMPLE_SECONDS / fastest)
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        for name in order:
            samples[name].append(_seconds_per_call(candidates[name], repeats[name], clock))
        order.reverse()
    return {name: Timing(tuple(samples[name]), repeats[name]) for name in candidates}


def training_step(
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer | None = None,
) -> Callable[[], None]:
    """
    A call that makes one training step from gradients of None, in the mode that the model is in: forward, backward
    from `scalar_of` the output, and the optimizer's step if there is one.
    """
    tensors = [each for each in inputs.values() if isinstance(each, torch.Tensor) and each.requires_grad]

    def step() -> None:
        model.zero_grad(set_to_none=True)
        for tensor in tensors:
            tensor.grad = None
        scalar_of(model(**inputs)).backward()
        if optimizer is not None:
            optimizer.step()

    return step


def inference(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """A call that makes one forward in inference mode, without the `labels`."""
    inputs = {name: tensor for name, tensor in inputs.items() if name != "labels"}

    def call() -> None:
        with torch.inference_mode():
            model(**inputs)

    return call


def scalar_of(output: Any) -> torch.Tensor:
    """What a backward starts from: the output's `loss` if it has one, else the sum of its tensors."""
    if (loss := getattr(output, "loss", None)) is not None:
        return loss
    values = output.values() if isinstance(output, Mapping) else output
    tensors = [values] if isinstance(values, torch.Tensor) else list(values)
    sums = [tensor.sum() for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
    if not sums:
        raise ValueError("no backward pass to count: nothing in the output requires a gradient")
    return torch.stack(sums).sum()


def _seconds_per_call(candidate: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    _synchronize()
    start = clock()
    for _ in range(repeats):
        candidate()
    _synchronize()
    return (clock() - start) / repeats


def _synchronize() -> None:
    # is_initialized is false in a process that has put nothing on the GPU; waiting would then start CUDA.
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
