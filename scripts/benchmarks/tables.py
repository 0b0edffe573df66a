"""Cells that the tables of the benchmarks have in common."""

from collections.abc import Mapping
from typing import Any


def percent(mean: float, deviation: float | None = None, sign: str = "") -> str:
    """A share, or a mean of shares and its deviation, in percent."""
    text = format(100 * mean, f"{sign}.1f")
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def ratios(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """Times, FLOPs and memory of a row of `measure_together` in units of the baseline's."""
    cells = [f"{row[key]['median'] / baseline[key]['median']:.3f}" for key in ("train_step_ms", "inference_ms")]
    return cells + [f"{row[key] / baseline[key]:.3f}" for key in ("train_step_flops", "peak_memory_bytes")]
