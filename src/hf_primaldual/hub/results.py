"""`results.json`, which a training script writes and a model card is rendered from: its schema, read and written.

A table: a `baseline`, if there is one, and `attentions`, trained on one task over the same seeds. What nobody measured
is null. Keys that are not named here are let through. Of encoders without a head it is `encoder_results`.
"""

import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from .encoder_results import ENCODER_TASKS, EncoderResults
from .schema import SCHEMA_VERSION, Document, Fraction, Hardware, Object, Quartiles, Versions

SIGNIFICANCE_LEVEL = 0.05
# What `dataset` holds besides, by task.
_OF_TASK = {
    "time-series-classification": ("classes", "channels"),
    "text-classification": ("classes",),
    "image-classification": ("classes", "channels", "image_size"),
    "document-matching": ("classes",),
    "text-generation": ("vocabulary",),
}
TASKS = tuple(_OF_TASK)
LANGUAGE = "text-generation"
"""A language model's task. Its accuracy is that of the next token; its loss, in nats a token, is what chooses."""


class Run(Object):
    """Exactly one is `released`: its weights lie with the file, and no other seed of its attention is better."""

    attention: str
    seed: int
    best_epoch: float | None
    epochs: float | None
    validation_accuracy: Fraction | None
    validation_loss: float | None
    test_accuracy: Fraction | None
    test_loss: float | None
    # Micro F1, where an example has several labels; its accuracy counts it as right if all of them are.
    validation_f1: Fraction = None
    test_f1: Fraction = None
    # Wall time.
    train_seconds: float | None
    released: bool


class Summary(Object):
    """Means over the seeds, and the sample deviation, which one seed does not have."""

    seeds: int
    test_accuracy_mean: Fraction | None
    test_accuracy_std: float | None
    validation_accuracy_mean: Fraction | None
    validation_loss_mean: float | None


class Comparison(Object):
    """
    Test accuracy minus that of the baseline, paired by seed. `p_value` is of a paired two-sided t-test and
    `p_value_adjusted` the same by Holm's method over the attentions tested. Both are null where there is no test: for
    one pair, and for differences that are all equal, which leave no variance to judge them by.
    """

    difference_mean: float
    difference_std: float | None
    pairs: int
    p_value: Fraction | None
    p_value_adjusted: Fraction | None
    significant: bool

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        adjusted = self.p_value_adjusted
        if (self.p_value is None) != (adjusted is None):
            raise ValueError("of 'p_value' and 'p_value_adjusted' only one is null")
        if self.significant != (adjusted is not None and adjusted < SIGNIFICANCE_LEVEL):
            raise ValueError(
                f"'significant' must say whether 'p_value_adjusted' ({adjusted}) is below {SIGNIFICANCE_LEVEL}"
            )
        return self


class Cost(Object):
    """FLOPs of one call, milliseconds, and the peak over one training step."""

    parameters: int
    forward_flops: int
    train_step_flops: int
    inference_ms: Quartiles
    train_step_ms: Quartiles
    peak_memory_bytes: int


class Ratios(Object):
    """Attention over baseline; `flops` is that of `forward_flops`."""

    inference: float
    train_step: float
    flops: float
    memory: float


class Point(Object):
    """All at one batch size and length: under each name its cost, and in `ratios` under each attention."""

    __pydantic_extra__: dict[str, Cost]

    batch: int
    tokens: int
    ratios: dict[str, Ratios]


class Measured(Object):
    """When and where `efficiency` was measured, if that was not when and where the runs were trained."""

    date: str
    hardware: Hardware
    versions: Versions


class Results(Document):
    """The whole file."""

    # As in `Document`.
    task: Literal[TASKS]  # type: ignore[valid-type]
    # None where none was trained.
    baseline: str | None
    attentions: Annotated[list[str], Field(min_length=1)]
    # The released one: none has a better mean validation accuracy, nor an equal one with a lower mean loss; of a
    # language model, none has a lower mean loss.
    attention: str
    runs: Annotated[list[Run], Field(min_length=1)]
    summary: dict[str, Summary]
    comparisons: dict[str, Comparison]
    # Empty where it was not measured.
    efficiency: list[Point]
    measured: Measured = None
    # The class that trained, where a program of its author's did and not a comparison of this package.
    trainer: str = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for wrong in _disagreements(self.model_dump(exclude_unset=True)):
            raise ValueError(wrong)
        return self


def validate_results(results: Mapping[str, Any]) -> None:
    """Raises `ValueError`, one sentence with the place and the value of the first thing that is wrong."""
    found = results.get("schema", SCHEMA_VERSION) if isinstance(results, Mapping) else SCHEMA_VERSION
    if found != SCHEMA_VERSION:
        raise ValueError(
            f"results: schema {found} is not the one read here, {SCHEMA_VERSION}; run the command that made the file "
            "again"
        )
    is_encoder = isinstance(results, Mapping) and results.get("task") in ENCODER_TASKS
    try:
        (EncoderResults if is_encoder else Results).model_validate(results)
    except ValidationError as error:
        raise ValueError(f"results: {_said(error.errors()[0])}") from None
    for key, value in results.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"results: JSON cannot hold {key!r}: {error}") from None


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
    """Validates the results and writes them; what was at `path` stays whole if anything fails."""
    validate_results(results)
    write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in one step: a reader finds the old file or the new one, never a part."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def validation_rank(summary: Mapping[str, Any], task: str) -> tuple[float, ...]:
    """
    What attentions are chosen by, the greater the better: mean validation accuracy, then the lower mean loss; of
    language models the loss alone.
    """
    if summary["validation_accuracy_mean"] is None:
        return -math.inf, 0.0
    if task == LANGUAGE:
        return (-summary["validation_loss_mean"],)
    # Rounded, for the same mean of other fractions to be a tie.
    return round(summary["validation_accuracy_mean"], 12), -summary["validation_loss_mean"]


def names_of(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a table: its baseline, if it has one, and its attentions."""
    baseline = results["baseline"]
    return (*([] if baseline is None else [baseline]), *results["attentions"])


def _said(error: Mapping[str, Any]) -> str:
    """An error of pydantic in a sentence."""
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error["loc"]).removeprefix(".")
    if error["type"] == "missing":
        return f"{place!r} is missing"
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{place}: {said}" if place else said
    said = said[0].lower() + said[1:]
    return f"{place or 'the whole'!r} is {reprlib.repr(error['input'])}: {said}"


def _disagreements(results: Mapping[str, Any]) -> Iterator[str]:
    """Where parts of results that follow the schema do not agree."""
    baseline, attentions, attention = (results[key] for key in ("baseline", "attentions", "attention"))
    runs, summary, names = results["runs"], results["summary"], names_of(results)
    if len(set(names)) < len(names):
        yield f"'baseline' and 'attentions' name one twice, which cannot be compared to itself: {', '.join(names)}"
    if attention not in attentions:
        yield f"'attention' must be one of 'attentions', {', '.join(attentions)}; not {attention!r}"
    tables = {
        "dataset": (results["dataset"], _OF_TASK[results["task"]]),
        "summary": (summary, names),
        "comparisons": (results["comparisons"], compared := () if baseline is None else attentions),
    }
    for index, point in enumerate(results["efficiency"]):
        tables[f"efficiency[{index}]"] = (point, names)
        tables[f"efficiency[{index}].ratios"] = (point["ratios"], compared)
    yield from (f"'{place}.{key}' is missing" for place, (of, keys) in tables.items() for key in keys if key not in of)
    for index, run in enumerate(runs):
        if run["attention"] not in names:
            yield f"'runs[{index}].attention' is {run['attention']!r}, not of the table"
    seeds = {name: sorted(run["seed"] for run in runs if run["attention"] == name) for name in names}
    for name in names:
        if seeds[name] != sorted(set(seeds[names[0]])):
            yield (
                f"'runs' must hold every seed once for each name; {name!r} has {seeds[name]}, {names[0]!r} "
                f"{seeds[names[0]]}"
            )
    released = [run for run in runs if run["released"]]
    if [run["attention"] for run in released] != [attention]:
        of = ", ".join(repr(run["attention"]) for run in released) or "none"
        yield f"exactly one of 'runs' must be released, of 'attention', {attention!r}; those released are of: {of}"
    rivals = [run for run in runs if run["attention"] != baseline]
    if len(rivals) > 1 and any(run["validation_accuracy"] is None for run in rivals):
        yield "of several 'runs' the one with the best validation accuracy is released, which must not be null"
        return
    task = results["task"]
    metric, sign = ("loss", -1) if task == LANGUAGE else ("accuracy", 1)
    own = [run[f"validation_{metric}"] for run in (*released, *runs) if run["attention"] == attention]
    if None not in own and sign * own[0] < (best := max(sign * value for value in own)):
        yield f"the released run is not the one with the best validation {metric}, {sign * best}"
    ahead = max(attentions, key=lambda name: validation_rank(summary[name], task))
    if validation_rank(summary[ahead], task) > validation_rank(summary[attention], task):
        yield f"'attention' is {attention!r}, but {ahead!r} is better on validation"
