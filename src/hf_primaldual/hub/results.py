"""The file a training script writes and a model card is rendered from: `results.json`, schema 1.

Units and meanings that the keys alone do not tell:

- accuracies are fractions between 0 and 1; `*_std` is the sample deviation over seeds, null where there is one seed;
- `runs` holds every run, of the attention and of the baseline. Exactly one is `released`, the one whose weights lie
  beside the file: among the attention's seeds, none has a better validation accuracy;
- `comparison` pairs the runs by seed, test accuracy of the attention minus test accuracy of the baseline;
- each point of `efficiency` measures both at one batch size and length: `forward_flops` and `train_step_flops` of one
  call, `inference_ms` and `train_step_ms` in milliseconds, `peak_memory_bytes` over one training step; the ratios are
  attention over baseline, `flops_ratio` that of `forward_flops`;
- `train_seconds` is wall time; `hardware` and `versions` are `measure.environment()`.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1

_ACCURACIES = ("validation_accuracy", "test_accuracy")
_NUMBER = int | float
_QUARTILES = {"median": _NUMBER, "q1": _NUMBER, "q3": _NUMBER}
# A dict names keys that must be there, a list of one entry is a list that must not be empty, the rest are types.
_SCHEMA = {
    "schema": int,
    "command": str,
    "date": str,
    "model_name": str,
    "task": str,
    "attention": str,
    "baseline": str,
    "license": str,
    "dataset": {
        "name": str,
        "source": str,
        "sha256": dict,
        "licence": str,
        "train": int,
        "validation": int,
        "test": int,
        "classes": int,
        "channels": int,
        "length": [int],
    },
    "settings": dict,
    "runs": [
        {
            "attention": str,
            "seed": int,
            "best_epoch": _NUMBER,
            "epochs": _NUMBER,
            "validation_accuracy": _NUMBER,
            "test_accuracy": _NUMBER,
            "test_loss": _NUMBER,
            "train_seconds": _NUMBER,
            "released": bool,
        }
    ],
    "summary": dict,
    "comparison": {"difference_mean": _NUMBER, "difference_std": _NUMBER | None, "pairs": int},
    "efficiency": [
        {
            "batch": int,
            "tokens": int,
            "inference_ratio": _NUMBER,
            "train_step_ratio": _NUMBER,
            "flops_ratio": _NUMBER,
            "memory_ratio": _NUMBER,
        }
    ],
    "hardware": {
        "processor": str,
        "cores": int,
        "threads": int,
        "memory_gib": _NUMBER | None,
        "accelerator": str | None,
    },
    "versions": {"python": str, "torch": str, "transformers": str, "hf_primaldual": str, "revision": str | None},
}
# What `summary` and each point of `efficiency` hold under the name of the attention and of the baseline.
_SUMMARY = {
    "seeds": int,
    "test_accuracy_mean": _NUMBER,
    "test_accuracy_std": _NUMBER | None,
    "validation_accuracy_mean": _NUMBER,
}
_COST = {
    "parameters": int,
    "forward_flops": int,
    "train_step_flops": int,
    "inference_ms": _QUARTILES,
    "train_step_ms": _QUARTILES,
    "peak_memory_bytes": int,
}


def validate_results(results: Mapping[str, Any]) -> None:
    """Check a results dictionary against the schema; keys it does not name are let through.

    Raises:
        ValueError: One sentence that names the first key that is missing, of a wrong type, or against the rules.
    """
    _check(results, _SCHEMA, "")
    if results["schema"] != SCHEMA_VERSION:
        raise ValueError(f"results: schema {results['schema']} is not the one read here, {SCHEMA_VERSION}")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", results["model_name"]):
        raise ValueError(
            f"results: 'model_name' may hold letters, digits, '.', '_' and '-', not {results['model_name']!r}"
        )
    names = (results["attention"], results["baseline"])
    if names[0] == names[1]:
        raise ValueError(f"results: attention and baseline are both {names[0]!r}: there is nothing to compare")
    for name in names:
        _check(results["summary"], {name: _SUMMARY}, "summary")
        for index, point in enumerate(results["efficiency"]):
            _check(point, {name: _COST}, f"efficiency[{index}]")
    _check_accuracies(results)
    _check_settings(results["settings"])
    _check_released(results["runs"], results["attention"])
    _check_json(results, "")


def load_results(path: str | os.PathLike) -> dict[str, Any]:
    """Read and validate a results file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or does not follow the schema.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    validate_results(results)
    return results


def save_results(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Validate the results and write them; what was at `path` stays whole if anything fails.

    Raises:
        ValueError: The results do not follow the schema; nothing is written.
    """
    validate_results(results)
    write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Write a text file in one step: a reader finds the old file or the new one, never a part."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check(value: Any, spec: Any, place: str) -> None:
    if isinstance(spec, dict):
        _check_type(value, Mapping, "an object", place)
        for key, inner in spec.items():
            inside = f"{place}.{key}" if place else key
            if key not in value:
                raise ValueError(f"results: {inside!r} is missing")
            _check(value[key], inner, inside)
    elif isinstance(spec, list):
        _check_type(value, list, "a list", place)
        if not value:
            raise ValueError(f"results: {place!r} is empty")
        for index, item in enumerate(value):
            _check(item, spec[0], f"{place}[{index}]")
    else:
        _check_type(value, spec, spec.__name__ if isinstance(spec, type) else str(spec), place)


def _check_type(value: Any, expected: Any, description: str, place: str) -> None:
    # In Python a bool is an int; a true where a number belongs is a mistake all the same.
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"results: {place or 'the whole'!r} must be {description}, not {type(value).__name__}")


def _check_accuracies(results: Mapping[str, Any]) -> None:
    places = [(f"runs[{i}].{key}", run[key]) for i, run in enumerate(results["runs"]) for key in _ACCURACIES]
    for name in (results["attention"], results["baseline"]):
        summary = results["summary"][name]
        places += [(f"summary.{name}.{key}_mean", summary[f"{key}_mean"]) for key in _ACCURACIES]
    for place, value in places:
        if not 0 <= value <= 1:
            raise ValueError(f"results: {place!r} must be a fraction between 0 and 1, not {value}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            raise ValueError(f"results: 'settings.{key}' must be a plain value: settings are flat")


def _check_released(runs: list[Mapping[str, Any]], attention: str) -> None:
    released = [run for run in runs if run["released"]]
    if len(released) != 1:
        raise ValueError(f"results: exactly one of 'runs' must be released, not {len(released)}")
    if released[0]["attention"] != attention:
        raise ValueError(f"results: the released run uses {released[0]['attention']!r}, not {attention!r}")
    best = max(run["validation_accuracy"] for run in runs if run["attention"] == attention)
    if released[0]["validation_accuracy"] < best:
        raise ValueError("results: the released run is not the one with the best validation accuracy")


def _check_json(value: Any, place: str) -> None:
    """Refuse what JSON cannot hold, NaN and infinity among it, by its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_type(key, str, "named by strings", place)
            _check_json(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, f"{place}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"results: {place!r} is {value}, not a finite number")
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"results: {place!r} is a {type(value).__name__}, which JSON cannot hold")
