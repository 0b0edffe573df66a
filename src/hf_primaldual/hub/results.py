"""`results.json`: read, validated and written. `schema.py` says what it holds, the rules here what a schema cannot."""

import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 2
SIGNIFICANCE_LEVEL = 0.05
# What `dataset` holds besides, by task.
_OF_TASK = {
    "time-series-classification": ("channels", "length"),
    "text-classification": ("length",),
    "image-classification": ("channels", "image_size"),
    "document-matching": ("length",),
}
TASKS = tuple(_OF_TASK)


def validate_results(results: Mapping[str, Any]) -> None:
    """
    Checks a results dictionary against the schema and the rules; keys that they do not name are let through.

    Raises:
        ValueError: One sentence with the place and the value of the first thing that is wrong.
        ImportError: pydantic is not installed.
    """
    from pydantic import ValidationError

    from .schema import Results

    found = results.get("schema", SCHEMA_VERSION) if isinstance(results, Mapping) else SCHEMA_VERSION
    if found != SCHEMA_VERSION:
        raise ValueError(
            f"results: schema {found} is not the one read here, {SCHEMA_VERSION}; run the command that made the file "
            "again"
        )
    try:
        Results.model_validate(results)
    except ValidationError as error:
        raise ValueError(f"results: {_said(error.errors()[0])}") from None
    for wrong in chain(_rules(results), _not_json(results)):
        raise ValueError(f"results: {wrong}")


def load_results(path: str | os.PathLike) -> dict[str, Any]:
    """
    Reads and validates a results file.

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
    """
    Validates the results and writes them; what was at `path` stays whole if anything fails.

    Raises:
        ValueError: The results do not follow the schema; nothing is written.
    """
    validate_results(results)
    write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in one step: a reader finds the old file or the new one, never a part."""
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


def _said(error: Mapping[str, Any]) -> str:
    """An error of pydantic in a sentence."""
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error["loc"]).removeprefix(".")
    if error["type"] == "missing":
        return f"{place!r} is missing"
    said = error["msg"][0].lower() + error["msg"][1:]
    return f"{place or 'the whole'!r} is {reprlib.repr(error['input'])}: {said}"


def _rules(results: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with results that follow the schema."""
    baseline, attentions, attention = (results[key] for key in ("baseline", "attentions", "attention"))
    runs, summary, names = results["runs"], results["summary"], (baseline, *attentions)
    if len(set(names)) < len(names):
        yield f"'baseline' and 'attentions' name one twice, which cannot be compared to itself: {', '.join(names)}"
    if attention not in attentions:
        yield f"'attention' must be one of 'attentions', {', '.join(attentions)}; not {attention!r}"
    for key in _OF_TASK[results["task"]]:
        if key not in results["dataset"]:
            yield f"'dataset.{key}' is missing"
    tables = {"summary": (summary, names), "comparisons": (results["comparisons"], attentions)}
    for index, point in enumerate(results["efficiency"]):
        tables[f"efficiency[{index}]"] = (point, names)
        tables[f"efficiency[{index}].ratios"] = (point["ratios"], attentions)
    yield from (f"'{place}.{key}' is missing" for place, (of, keys) in tables.items() for key in keys if key not in of)
    for name in attentions:
        value, adjusted, claimed = (
            results["comparisons"][name][key] for key in ("p_value", "p_value_adjusted", "significant")
        )
        if (value is None) != (adjusted is None):
            yield f"of 'comparisons.{name}.p_value' and '.p_value_adjusted' only one is null"
        if claimed != (adjusted is not None and adjusted < SIGNIFICANCE_LEVEL):
            yield (
                f"'comparisons.{name}.significant' must say whether 'p_value_adjusted' ({adjusted}) is below "
                f"{SIGNIFICANCE_LEVEL}"
            )
    for key, value in results["settings"].items():
        if isinstance(value, Mapping):
            yield f"'settings.{key}' must be a plain value, not {value}: settings are flat"
    for index, run in enumerate(runs):
        if run["attention"] not in names:
            yield f"'runs[{index}].attention' is {run['attention']!r}, not of the table"
    seeds = {name: sorted(run["seed"] for run in runs if run["attention"] == name) for name in names}
    for name in names:
        if seeds[name] != sorted(set(seeds[baseline])):
            yield (
                f"'runs' must hold every seed once for each name; {name!r} has {seeds[name]}, {baseline!r} "
                f"{seeds[baseline]}"
            )
    released = [run for run in runs if run["released"]]
    if [run["attention"] for run in released] != [attention]:
        of = ", ".join(repr(run["attention"]) for run in released) or "none"
        yield f"exactly one of 'runs' must be released, of 'attention', {attention!r}; those released are of: {of}"
    best = max(run["validation_accuracy"] for run in runs if run["attention"] == attention)
    if released[0]["validation_accuracy"] < best:
        yield f"the released run is not the one with the best validation accuracy, {best}"
    ahead = max(attentions, key=lambda name: validation_rank(summary[name]))
    if validation_rank(summary[ahead]) > validation_rank(summary[attention]):
        yield f"'attention' is {attention!r}, but {ahead!r} is better on validation"


def _not_json(value: Any, place: str = "") -> Iterator[str]:
    """What JSON cannot hold, NaN and infinity among it, by its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_json(inner, f"{place}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_json(item, f"{place}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{place!r} is {value}, not a finite number"
    elif value is not None and not isinstance(value, str | int | float):
        yield f"{place!r} is {value!r}, which JSON cannot hold"
