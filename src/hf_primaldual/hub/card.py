"""Model cards, rendered from the results file of a run and from nothing else."""

import json
import math
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .results import load_results, validate_results, write_atomically

_TEMPLATE = "card_template.md"
_AS_THEY_ARE = ("model_name", "task", "attention", "baseline", "command", "date", "dataset")


def render_card(results: Mapping[str, Any]) -> str:
    """The model card of a results dictionary (`hub.results`), metadata included: same results, same text.

    Raises:
        ValueError: The results do not follow the schema.
        ImportError: jinja2 is not installed.
    """
    validate_results(results)
    template = files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    card = ModelCard.from_template(_metadata(results), template_str=template, **_view(results))
    return str(card).rstrip("\n") + "\n"


def write_card(folder: str | os.PathLike, results_file: str = "results.json") -> Path:
    """Render `folder/results_file` into `folder/README.md` and return its path.

    Raises:
        FileNotFoundError: There is no results file.
        ValueError: The results do not follow the schema; a card that is there already is left as it was.
    """
    folder = Path(folder)
    text = render_card(load_results(folder / results_file))
    card = folder / "README.md"
    write_atomically(card, text)
    return card


def _metadata(results: Mapping[str, Any]) -> ModelCardData:
    # No pipeline_tag: the Hub has no task for time series classification, so it is a tag.
    attention, name = results["attention"], results["dataset"]["name"]
    summary, released = results["summary"][attention], _released(results)
    accuracies = {
        f"Test accuracy, mean over {summary['seeds']} seeds (ours)": summary["test_accuracy_mean"],
        f"Test accuracy, these weights, seed {released['seed']} (ours)": released["test_accuracy"],
    }
    return ModelCardData(
        license=results["license"],
        library_name="transformers",
        tags=["primal-dual-attention", results["task"], f"attention-{attention.replace('+', '-')}"],
        model_name=results["model_name"],
        eval_results=[
            EvalResult(
                task_type=results["task"],
                dataset_type=name.lower(),
                dataset_name=name,
                dataset_split="test",
                metric_type="accuracy",
                metric_name=metric,
                metric_value=value,
            )
            for metric, value in accuracies.items()
        ],
    )


def _view(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template prints, numbers already in words."""
    attention, baseline = results["attention"], results["baseline"]
    comparison, released = results["comparison"], _released(results)
    return {
        **{key: results[key] for key in _AS_THEY_ARE},
        "task_words": results["task"].replace("-", " "),
        "results_rows": [_summary_row(name, results["summary"][name]) for name in (baseline, attention)],
        "difference": _plus_minus(comparison["difference_mean"], comparison["difference_std"], sign="+"),
        "verdict": _verdict(comparison, attention, baseline),
        "released": {
            "seed": released["seed"],
            "validation": f"{_percent(released['validation_accuracy'])} %",
            "test": f"{_percent(released['test_accuracy'])} %",
        },
        "runs_rows": [_run_row(run) for run in results["runs"]],
        "hardware": _hardware(results["hardware"]),
        "efficiency_rows": [
            row for point in results["efficiency"] for row in _efficiency_rows(point, attention, baseline)
        ],
        "speed": [_speed(point, attention, baseline) for point in results["efficiency"]],
        "settings_rows": _table(results["settings"]),
        "length": " to ".join(str(length) for length in results["dataset"]["length"]),
        "length_limit": results["settings"].get("max_position_embeddings", results["dataset"]["length"][-1]),
        "versions_rows": _table(results["versions"]),
    }


def _released(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(run for run in results["runs"] if run["released"])


def _verdict(comparison: Mapping[str, Any], attention: str, baseline: str) -> str:
    """Whether the attention beats the baseline, and whether by more than the noise, in one sentence."""
    mean, deviation, pairs = (comparison[key] for key in ("difference_mean", "difference_std", "pairs"))
    side = f"{_percent(abs(mean))} points {'above' if mean > 0 else 'below'}" if mean else "level with"
    if deviation is None or pairs < 2:
        return f"`{attention}` is {side} `{baseline}` here, on too few seeds to tell a difference from noise."
    noise = 2 * deviation / math.sqrt(pairs)
    measure = f"the noise of {_percent(noise)} points (twice the standard error over {pairs} pairs of seeds)"
    if abs(mean) <= noise:
        return f"`{attention}` neither beats `{baseline}` here nor loses to it: it is {side} it, within {measure}."
    verb = "beats" if mean > 0 else "does not beat"
    return f"`{attention}` {verb} `{baseline}` here: it is {side} it, more than {measure}."


def _speed(point: Mapping[str, Any], attention: str, baseline: str) -> str:
    inference, step = (_pace(point[key]) for key in ("inference_ratio", "train_step_ratio"))
    return (
        f"At {point['tokens']} tokens and batch {point['batch']}, beside `{baseline}`, `{attention}` is "
        f"{inference} in inference and {step} in a training step."
    )


def _pace(ratio: float) -> str:
    shown = f"{ratio:.2f}"
    if float(shown) == 1:
        return "as fast"
    return f"{'slower' if ratio > 1 else 'faster'} ({shown} times the time)"


def _summary_row(name: str, summary: Mapping[str, Any]) -> list[str]:
    accuracy = _plus_minus(summary["test_accuracy_mean"], summary["test_accuracy_std"])
    return [f"`{name}`", str(summary["seeds"]), accuracy, _percent(summary["validation_accuracy_mean"])]


def _run_row(run: Mapping[str, Any]) -> list[str]:
    return [
        f"`{run['attention']}`" + (", released" if run["released"] else ""),
        str(run["seed"]),
        _short(run["best_epoch"]),
        _short(run["epochs"]),
        _percent(run["validation_accuracy"]),
        _percent(run["test_accuracy"]),
        _short(run["test_loss"]),
        _short(run["train_seconds"]),
    ]


def _efficiency_rows(point: Mapping[str, Any], attention: str, baseline: str) -> list[list[str]]:
    flops, memory, inference, step = (
        f"{point[f'{key}_ratio']:.2f}" for key in ("flops", "memory", "inference", "train_step")
    )
    rows = [[f"`{name}`", *_cost_cells(point[name])] for name in (baseline, attention)]
    rows.append(["ratio", "", flops, "", memory, inference, step])
    return [[str(point["tokens"]), str(point["batch"]), *row] for row in rows]


def _cost_cells(cost: Mapping[str, Any]) -> list[str]:
    return [
        f"{cost['parameters']:,}",
        _scaled(cost["forward_flops"]),
        _scaled(cost["train_step_flops"]),
        _short(cost["peak_memory_bytes"] / 2**20),
        _quartiles(cost["inference_ms"]),
        _quartiles(cost["train_step_ms"]),
    ]


def _hardware(hardware: Mapping[str, Any]) -> str:
    parts = [hardware["processor"], f"{hardware['cores']} cores, {hardware['threads']} threads"]
    if hardware["memory_gib"] is not None:
        parts.append(f"{hardware['memory_gib']} GiB of memory")
    parts.append(hardware["accelerator"] or "no accelerator")
    return "; ".join(parts)


def _table(values: Mapping[str, Any]) -> list[list[str]]:
    return [[_cell(key), _cell(value)] for key, value in values.items()]


def _cell(value: Any) -> str:
    """A value as text that cannot break a table: None, booleans and lists as JSON writes them."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")


def _percent(fraction: float, sign: str = "") -> str:
    return f"{100 * fraction:{sign}.2f}"


def _plus_minus(mean: float, deviation: float | None, sign: str = "") -> str:
    return _percent(mean, sign) + (" (one seed)" if deviation is None else f" ± {_percent(deviation)}")


def _quartiles(milliseconds: Mapping[str, float]) -> str:
    return f"{_short(milliseconds['median'])} ({_short(milliseconds['q1'])} to {_short(milliseconds['q3'])})"


def _short(number: float) -> str:
    """Three significant digits, whole numbers in full."""
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"


def _scaled(count: float) -> str:
    """A count with a decimal prefix."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.0f}"
