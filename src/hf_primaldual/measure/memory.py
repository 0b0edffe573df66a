"""The peak of the memory that a call allocates."""

import os
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile


def peak_memory(fn: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """Largest number of bytes of tensors alive at once while `fn` runs, above the level it starts from.

    On CUDA this is the caching allocator's own counter. On a CPU it is the running sum over the allocations and
    releases that torch's profiler records: temporaries inside an operator count, memory that a library takes past
    torch's allocator (oneDNN's scratch space, NumPy) does not. It is repeatable, unlike the resident set size, but it
    slows `fn` down: take no times meanwhile.

    On a CPU nothing is credited when `fn` releases a tensor that was there before it. So measure a training step from
    gradients set to None beforehand, and know that its first step also allocates the optimizer's state.

    Args:
        fn: Called once, without arguments.
        device: Where to look, a CPU or a CUDA device.

    Raises:
        ValueError: The device is neither.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _cpu_peak(fn)
    if device.type == "cuda":
        return _cuda_peak(fn, device)
    raise ValueError(f"peak_memory knows 'cpu' and 'cuda' devices, not {str(device)!r}")


def activation_memory(model: nn.Module, fn: Callable[[], Any]) -> int:
    """Bytes that a forward leaves for its backward: what autograd keeps alive between the two.

    These are the memory blocks behind all tensors that operations save for their gradients, each counted once however
    many tensors look at it. Parameters and buffers of `model` are not among them, nor is what lives on without the
    backward, such as the output. A block that was there before the call, as the inputs' are, counts if an operation
    keeps it.

    Args:
        model: Whose parameters and buffers are left out.
        fn: Makes the forward, once, without arguments; the model is in the mode that is to be measured.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        # Held until the end: the address of a block that was released may be given to the next one.
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = fn()
    total = sum(storage.nbytes() for address, storage in kept.items() if address not in own)
    del output
    return total


def _cpu_peak(fn: Callable[[], Any]) -> int:
    # Kineto reads its log level at its first use, and at the default writes two lines to stderr for each profile.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        fn()
    events = [
        event
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]" and "CPU" in str(event.device_type())
    ]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0))


def _cuda_peak(fn: Callable[[], Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    start = torch.cuda.memory_allocated(device)
    fn()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - start
