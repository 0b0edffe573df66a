"""The tables and the pictures of a comparison."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tables import percent, ratios

from hf_primaldual.hub.markdown import markdown_table
from hf_primaldual.measure.plots import plot_pareto

from .models import BASELINE
from .results import REFERENCES, Results, Row, load_results

# Where the tables stand in a document.
BLOCK = "tables of rivals"
COSTS = ("parameters", "training step", "inference", "FLOPs", "peak memory")


def format_table(results: Results, tokens: int, names: Iterable[str] | None = None) -> str:
    """
    A comparison at one length as a table of Markdown: a row a model, by default all of them, and a line for each that
    failed. A difference of accuracies that is larger than the noise of the seeds has a star.
    """
    costs, summary = results.costs_at(tokens), results.summary_at(tokens)
    references = [name for name in REFERENCES[results.family] if name in summary][:1]
    title, head = f"{results.family}, {tokens} tokens", ["model"]
    if costs:
        title += f", batch {next(iter(costs.values()))['batch']}, {_unit(costs)}"
        head += COSTS
    if summary:
        task, training = results.tasks[str(tokens)], results.settings["training"]
        split = training["evaluate"]
        title += f"; {task['description']}, {task['train']} trained on in {training['steps']} steps of "
        title += f"{training['train_batch']}, {task[split]} of {split}, largest class {task['largest_class']:.1%}"
        title += f", {'/'.join(sorted({str(row['seeds']) for row in summary.values()}))} seeds"
        head += [f"{split} accuracy, %", *(f"minus {name}" for name in references)]
    rows = []
    for name in names or costs | summary:
        cells = [name]
        if costs:
            cells += _costs(costs[name], costs[_baseline(costs)]) if name in costs else [""] * len(COSTS)
        if summary:
            cells += _accuracies(summary[name], references) if name in summary else [""] * (1 + len(references))
        rows.append(cells)
    failures = [f"- {row['model']}: {row['error']}" for row in results.failed if row["tokens"] == tokens]
    return "\n".join(["", title, "", markdown_table(head, rows), *([""] if failures else []), *failures, ""])


def tables(files: list[Path]) -> str:
    """
    The table of each results file at its longest length, of the models with accuracies, with what it was measured on
    and its picture.
    """
    parts = []
    for file in files:
        results = load_results(file)
        tokens = results.lengths[-1]
        parts += [format_table(results, tokens, results.summary_at(tokens)), _measured_on(results, tokens), ""]
        if plot_results(results, tokens) is not None:
            name = f"{picture_name(file, tokens)}.png"
            parts += [f"![{results.family}, {tokens} tokens: accuracy against costs](../results/{name})", ""]
    return "\n".join(parts)


def picture_name(file: Path, tokens: int) -> str:
    """Of the pictures of a results file, without their endings."""
    return f"{file.stem}-{tokens}-tokens"


def plot_results(results: Results, tokens: int):
    """The figure of `plot_pareto` at one length; None unless two models have accuracies of the test set and costs."""
    costs = results.costs_at(tokens)
    summary = {name: row for name, row in results.summary_at(tokens).items() if name in costs}
    if len(summary) < 2 or results.settings["training"]["evaluate"] != "test":
        return None
    baseline = _baseline(summary)
    return plot_pareto(
        {
            "baseline": baseline,
            "attentions": [name for name in summary if name != baseline],
            "dataset": {"name": results.tasks[str(tokens)]["description"]},
            "efficiency": [{"batch": costs[baseline]["batch"], "tokens": tokens, **costs}],
            "summary": {
                name: row | {"test_accuracy_mean": row["accuracy_mean"], "test_accuracy_std": row["accuracy_std"]}
                for name, row in summary.items()
            },
        }
    )


def _measured_on(results: Results, tokens: int) -> str:
    parts = []
    for part, word, rows in (("costs", "Costs", results.costs), ("training", "Accuracies", results.runs)):
        if any(row["tokens"] == tokens for row in rows):
            hardware, versions = (results.settings[part]["environment"][key] for key in ("hardware", "versions"))
            machine = hardware["accelerator"] or f"{hardware['processor']}, {hardware['threads']} thread(s)"
            parts.append(f"{word}: {machine}, torch {versions['torch']}, transformers {versions['transformers']}.")
    return " ".join(parts)


def _baseline(models: dict[str, Any]) -> str:
    """What costs are divided by: softmax, or, where that fails, the first model."""
    return BASELINE if BASELINE in models else next(iter(models))


def _unit(costs: dict[str, Row]) -> str:
    """What the ratios are ratios to."""
    name = _baseline(costs)
    step, inference = (costs[name][kind]["median"] for kind in ("train_step_ms", "inference_ms"))
    flops, memory = costs[name]["train_step_flops"] / 1e9, costs[name]["peak_memory_bytes"] / 1e6
    return f"in units of {name} ({step:.1f} ms, {inference:.1f} ms, {flops:.2f} GFLOPs, {memory:.1f} MB)"


def _costs(cost: Row, baseline: Row) -> list[str]:
    return [f"{cost['parameters']:,}", *ratios(cost, baseline)]


def _accuracies(row: Row, references: list[str]) -> list[str]:
    cells = [percent(row["accuracy_mean"], row["accuracy_std"])]
    for name in references:
        found = row.get(f"minus_{name}")
        cell = "" if found is None else percent(found["difference_mean"], found["difference_std"], "+")
        cells.append(f"{cell} *" if found is not None and found["significant"] else cell)
    return cells
