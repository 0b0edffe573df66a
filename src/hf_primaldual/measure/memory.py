"""The memory that a call allocates: measured, or counted from shapes where no machine at hand can hold it."""

import gc
import os
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile


def peak_memory(fn: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """
    Largest number of bytes of tensors alive at once while `fn` runs, above the level it starts from.

    On CUDA this is the caching allocator's own counter. On a CPU it is the running sum over the allocations that
    torch's profiler records: temporaries inside an operator count, memory past torch's allocator (oneDNN's scratch
    space, NumPy) does not, and nothing is credited when `fn` releases a tensor that was there before: measure a
    training step from gradients set to None. It is repeatable and slows `fn` down: take no times meanwhile.

    Raises:
        ValueError: The device is neither a CPU nor a CUDA device.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        fn()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - start
    if device.type != "cpu":
        raise ValueError(f"peak_memory knows 'cpu' and 'cuda' devices, not {str(device)!r}")
    # Kineto reads its log level at its first use, and at the default writes two lines to stderr for each profile.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        fn()
    recorded = profiler.profiler.kineto_results.events()
    events = [event for event in recorded if event.name() == "[memory]" and "CPU" in str(event.device_type())]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0))


def count_peak_memory(fn: Callable[[], Any], *held: nn.Module | torch.Tensor) -> int:
    """
    As `peak_memory` on a CPU, by torch's `MemTracker`, from the sizes of the tensors that operations return:
    temporaries inside an operator do not count. For `FakeTensorMode`, whose tensors have no data: any size fits.

    Args:
        fn: A call without arguments.
        held: The modules and tensors that were there before. Those not named count once an operation returns them.
    """
    # Only here: it brings torch.distributed along, which some builds of torch lack.
    from torch.distributed._tools.mem_tracker import MemTracker

    tracker = MemTracker()
    tracker.track_external(*held)

    def total(kind: str) -> int:
        return sum(device["Total"] for device in tracker.get_tracker_snapshot(kind).values())

    before = total("current")
    with tracker:
        fn()
    return total("peak") - before


def activation_memory(model: nn.Module, fn: Callable[[], Any]) -> int:
    """
    Bytes that the forward `fn` leaves for its backward: the memory blocks behind all tensors that operations save for
    their gradients, each counted once, parameters and buffers of `model` left out.
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


class Outcome(NamedTuple):
    """What a call returned; or, where it did not fit into memory, `None` and why, in the allocator's words."""

    result: Any
    does_not_fit: str | None = None


def if_it_fits(fn: Callable[[], Any]) -> Outcome:
    """
    Calls `fn`, once; running out of memory is an outcome and not an error, so that a table goes on without the row.

    Linux lets a process take more than there is and ends it later: set a limit (`ulimit -v`) where that may happen.
    """
    try:
        return Outcome(fn())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
    # Only here are the frames gone that held what had been allocated.
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return Outcome(None, reason)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, CUDA's, or that of torch's allocator on a CPU."""
    # On a CPU torch raises a plain RuntimeError.
    words = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
