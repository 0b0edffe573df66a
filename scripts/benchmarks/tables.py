"""Cells that the tables of the benchmarks have in common."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from hf_primaldual.hub.markdown import percent as with_digits

percent = partial(with_digits, digits=1)


def ratios(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """Times, FLOPs and memory of a row of `measure_together` in units of the baseline's."""
    cells = [f"{row[key]['median'] / baseline[key]['median']:.3f}" for key in ("train_step_ms", "inference_ms")]
    return cells + [f"{row[key] / baseline[key]:.3f}" for key in ("train_step_flops", "peak_memory_bytes")]
