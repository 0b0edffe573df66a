"""What becomes of a measurement that a machine's memory cannot hold."""

import gc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Outcome(NamedTuple):
    """What a call returned; or, where it did not fit, `None` and why, in the allocator's words."""

    result: Any
    does_not_fit: str | None = None


def if_it_fits(fn: Callable[[], Any]) -> Outcome:
    """
    Calls `fn`; running out of memory is an outcome and not an error, so that a table goes on without the row.

    The allocator must refuse for this to see it. Linux lets a process take more than there is and ends it later: set a
    limit (`ulimit -v`) where that may happen.

    Args:
        fn: called once, without arguments. Any other error goes through.
    """
    try:
        return Outcome(fn())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
    # Only here are the frames gone that held what had been allocated.
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return Outcome(None, reason)


def those_that_fit(calls: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """
    Makes each call once; returns those that fitted, by name, and why the others did not.

    Args:
        calls: without arguments, by name.
    """
    reasons = {name: if_it_fits(call).does_not_fit for name, call in calls.items()}
    fitting = {name: call for name, call in calls.items() if reasons[name] is None}
    return fitting, {name: reason for name, reason in reasons.items() if reason is not None}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, CUDA's, or that of torch's allocator on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On a CPU torch raises a plain RuntimeError.
    words = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


__all__ = ["Outcome", "if_it_fits", "is_out_of_memory", "those_that_fit"]
