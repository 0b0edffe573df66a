"""The file a training script writes and a model card is rendered from: `results.json`, schema 2.

A table: a `baseline` and several `attentions`, trained on one task over the same seeds. Units and meanings that the
keys alone do not tell:

- accuracies are fractions between 0 and 1; `*_std` is the sample deviation over seeds, null where there is one seed;
- `attention` is the released one: of `attentions`, none has a better mean validation accuracy, nor an equal one with
  a lower mean validation loss;
- `runs` holds every run. Exactly one is `released`, the one whose weights lie beside the file: among the seeds of
  `attention`, none has a better validation accuracy;
- `comparisons` holds for each attention its test accuracy minus that of the baseline, paired by seed. `p_value` is of
  a paired two-sided t-test, `p_value_adjusted` the same by Holm's method over the attentions tested, `significant`
  whether it is below `SIGNIFICANCE_LEVEL`. Both are null, and nothing is significant, where there is no test: for one
  pair, and for differences that are all equal, zero or not, which leave no variance to judge them by;
- each point of `efficiency` measures all at one batch size and length: `forward_flops` and `train_step_flops` of one
  call, `inference_ms` and `train_step_ms` in milliseconds, `peak_memory_bytes` over one training step; `ratios` are
  attention over baseline, `flops` that of `forward_flops`;
- `dataset.length` is the shortest and the longest example, in time steps or tokens, `dataset.image_size` height and
  width in pixels; `dataset.subset`, where there is one, says how many of the official training examples were used and
  how they were drawn; `dataset.train`, `validation` and `test` are null for a stream, whose examples are not counted;
  `dataset.hub_id`, where there is one, is its id on the Hub;
- `base_model`, where there is one, is the Hub's id of the checkpoint that training started from, and `repo_id`, in a
  published checkpoint, that of its own repository;
- `co2_eq_emissions` is there only where a meter ran: grams of CO2 equivalent, and the `source`, the meter's name;
- `search`, where there was one, chose settings by `metric` on the validation set; `plots`, where there are any, name
  pictures beside the file;
- `train_seconds` is wall time; `hardware` and `versions` are `measure.environment()`.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 2
SIGNIFICANCE_LEVEL = 0.05

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
    "baseline": str,
    "attentions": [str],
    "attention": str,
    "license": str,
    "dataset": {
        "name": str,
        "source": str,
        "sha256": dict,
        "licence": str | None,
        "train": int | None,
        "validation": int | None,
        "test": int | None,
        "classes": int,
    },
    "settings": dict,
    "runs": [
        {
            "attention": str,
            "seed": int,
            "best_epoch": _NUMBER,
            "epochs": _NUMBER,
            "validation_accuracy": _NUMBER,
            "validation_loss": _NUMBER,
            "test_accuracy": _NUMBER,
            "test_loss": _NUMBER,
            "train_seconds": _NUMBER,
            "released": bool,
        }
    ],
    "summary": dict,
    "comparisons": dict,
    "efficiency": [{"batch": int, "tokens": int, "ratios": dict}],
    "hardware": {
        "processor": str,
        "cores": int,
        "threads": int,
        "memory_gib": _NUMBER | None,
        "accelerator": str | None,
    },
    "versions": {"python": str, "torch": str, "transformers": str, "hf_primaldual": str, "revision": str | None},
}
# What `dataset` holds besides, by task.
_DATASET = {
    "time-series-classification": {"channels": int, "length": [int]},
    "text-classification": {"length": [int]},
    "image-classification": {"channels": int, "image_size": [int]},
    "document-matching": {"length": [int]},
}
TASKS = tuple(_DATASET)
# What may be left out.
_OPTIONAL = {
    "base_model": str,
    # The repository that it was published in.
    "repo_id": str,
    "co2_eq_emissions": {"emissions": _NUMBER, "source": str},
    "plots": [str],
    "search": {"trials": int, "metric": str, "space": dict, "best": dict},
}
# What `summary` and each point of `efficiency` hold under every name, and what there is for each attention.
_SUMMARY = {
    "seeds": int,
    "test_accuracy_mean": _NUMBER,
    "test_accuracy_std": _NUMBER | None,
    "validation_accuracy_mean": _NUMBER,
    "validation_loss_mean": _NUMBER,
}
_COST = {
    "parameters": int,
    "forward_flops": int,
    "train_step_flops": int,
    "inference_ms": _QUARTILES,
    "train_step_ms": _QUARTILES,
    "peak_memory_bytes": int,
}
_COMPARISON = {
    "difference_mean": _NUMBER,
    "difference_std": _NUMBER | None,
    "pairs": int,
    "p_value": _NUMBER | None,
    "p_value_adjusted": _NUMBER | None,
    "significant": bool,
}
_RATIOS = {"inference": _NUMBER, "train_step": _NUMBER, "flops": _NUMBER, "memory": _NUMBER}


def validate_results(results: Mapping[str, Any]) -> None:
    """Check a results dictionary against the schema; keys it does not name are let through.

    Raises:
        ValueError: One sentence that names the first key that is missing, of a wrong type, or against the rules.
    """
    _check(results, {"schema": int}, "")
    if results["schema"] != SCHEMA_VERSION:
        raise ValueError(
            f"results: schema {results['schema']} is not the one read here, {SCHEMA_VERSION}; run the command that "
            "made the file again"
        )
    _check(results, _SCHEMA, "")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", results.get("repo_id", "owner/name"), re.ASCII):
        raise ValueError(f"results: 'repo_id' must be owner/name, not {results['repo_id']!r}")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", results["model_name"]):
        raise ValueError(
            f"results: 'model_name' may hold letters, digits, '.', '_' and '-', not {results['model_name']!r}"
        )
    _check_names(results)
    _check_kind(results)
    for key, spec in _OPTIONAL.items():
        if key in results:
            _check(results[key], spec, key)
    names = (results["baseline"], *results["attentions"])
    _check(results["summary"], dict.fromkeys(names, _SUMMARY), "summary")
    _check(results["comparisons"], dict.fromkeys(results["attentions"], _COMPARISON), "comparisons")
    for index, point in enumerate(results["efficiency"]):
        ratios = dict.fromkeys(results["attentions"], _RATIOS)
        _check(point, {**dict.fromkeys(names, _COST), "ratios": ratios}, f"efficiency[{index}]")
    _check_accuracies(results)
    _check_comparisons(results)
    _check_settings(results["settings"])
    _check_seeds(results)
    _check_released(results)
    _check_extras(results)
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


def validation_rank(summary: Mapping[str, Any]) -> tuple[float, float]:
    """What attentions are chosen by, the greater the better: mean validation accuracy, then the lower mean loss."""
    # Rounded, for the same mean of other fractions to be a tie.
    return round(summary["validation_accuracy_mean"], 12), -summary["validation_loss_mean"]


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


def _check_names(results: Mapping[str, Any]) -> None:
    attention, attentions, baseline = (results[key] for key in ("attention", "attentions", "baseline"))
    if len(set(attentions)) < len(attentions):
        raise ValueError(f"results: 'attentions' names one twice: {', '.join(attentions)}")
    if baseline in attentions:
        raise ValueError(
            f"results: {baseline!r} is the baseline and among 'attentions': it cannot be compared to itself"
        )
    if attention not in attentions:
        raise ValueError(
            f"results: 'attention' must be one of 'attentions', {', '.join(attentions)}; not {attention!r}"
        )


def _check_kind(results: Mapping[str, Any]) -> None:
    if results["task"] not in TASKS:
        raise ValueError(f"results: 'task' must be one of {', '.join(TASKS)}; not {results['task']!r}")
    dataset = results["dataset"]
    _check(dataset, _DATASET[results["task"]], "dataset")
    for key in ("length", "image_size"):
        if key in dataset and len(dataset[key]) != 2:
            raise ValueError(f"results: 'dataset.{key}' must be two numbers, not {len(dataset[key])}")
    for key in ("subset", "hub_id"):
        if key in dataset:
            _check(dataset[key], str, f"dataset.{key}")


def _check_accuracies(results: Mapping[str, Any]) -> None:
    places = [(f"runs[{i}].{key}", run[key]) for i, run in enumerate(results["runs"]) for key in _ACCURACIES]
    for name in (results["baseline"], *results["attentions"]):
        summary = results["summary"][name]
        places += [(f"summary.{name}.{key}_mean", summary[f"{key}_mean"]) for key in _ACCURACIES]
    _check_fractions(places)


def _check_comparisons(results: Mapping[str, Any]) -> None:
    for name in results["attentions"]:
        comparison, place = results["comparisons"][name], f"comparisons.{name}"
        value, adjusted = comparison["p_value"], comparison["p_value_adjusted"]
        if (value is None) != (adjusted is None):
            raise ValueError(f"results: of '{place}.p_value' and '{place}.p_value_adjusted' only one is null")
        if value is not None:
            _check_fractions([(f"{place}.p_value", value), (f"{place}.p_value_adjusted", adjusted)])
        if comparison["significant"] != (adjusted is not None and adjusted < SIGNIFICANCE_LEVEL):
            raise ValueError(
                f"results: '{place}.significant' must say whether 'p_value_adjusted' ({adjusted}) is below "
                f"{SIGNIFICANCE_LEVEL}"
            )


def _check_fractions(places: list[tuple[str, float]]) -> None:
    for place, value in places:
        if not 0 <= value <= 1:
            raise ValueError(f"results: {place!r} must be a fraction between 0 and 1, not {value}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            raise ValueError(f"results: 'settings.{key}' must be a plain value: settings are flat")


def _check_seeds(results: Mapping[str, Any]) -> None:
    names = (results["baseline"], *results["attentions"])
    seeds: dict[str, list[int]] = {name: [] for name in names}
    for index, run in enumerate(results["runs"]):
        if run["attention"] not in seeds:
            raise ValueError(f"results: 'runs[{index}].attention' is {run['attention']!r}, not of the table")
        seeds[run["attention"]].append(run["seed"])
    expected = sorted(set(seeds[names[0]]))
    for name in names:
        if sorted(seeds[name]) != expected:
            raise ValueError(
                f"results: 'runs' must hold every seed once for each name; {name!r} has {sorted(seeds[name])}, "
                f"{names[0]!r} {sorted(seeds[names[0]])}"
            )


def _check_released(results: Mapping[str, Any]) -> None:
    runs, attention = results["runs"], results["attention"]
    released = [run for run in runs if run["released"]]
    if len(released) != 1:
        raise ValueError(f"results: exactly one of 'runs' must be released, not {len(released)}")
    if released[0]["attention"] != attention:
        raise ValueError(f"results: the released run uses {released[0]['attention']!r}, not {attention!r}")
    best = max(run["validation_accuracy"] for run in runs if run["attention"] == attention)
    if released[0]["validation_accuracy"] < best:
        raise ValueError("results: the released run is not the one with the best validation accuracy")
    ranks = {name: validation_rank(results["summary"][name]) for name in results["attentions"]}
    ahead = max(ranks, key=ranks.__getitem__)
    if ranks[ahead] > ranks[attention]:
        raise ValueError(f"results: 'attention' is {attention!r}, but {ahead!r} is better on validation")


def _check_extras(results: Mapping[str, Any]) -> None:
    for name in results.get("plots", ()):
        if not re.fullmatch(r"[A-Za-z0-9._-]+\.(png|svg)", name):
            raise ValueError(f"results: 'plots' must name .png or .svg files beside the card, not {name!r}")
    if "search" in results and not results["search"]["metric"].startswith("validation"):
        raise ValueError(
            f"results: 'search.metric' must be of the validation set, as 'validation loss' is; not "
            f"{results['search']['metric']!r}"
        )


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
