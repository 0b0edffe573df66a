"""The tables and the pictures of a comparison."""

from pathlib import Path
from typing import Any

from tables import markdown_table, percent

from hf_primaldual.measure.plots import plot_pareto

from .models import BASELINE
from .results import REFERENCES, Results, load_results

# Where the tables stand in a document.
BLOCK = "tables of rivals"
COSTS = ("parameters", "step GFLOPs", "peak MB", "step ms", "ratio", "inference ms", "ratio")


def format_table(results: Results, tokens: int) -> str:
    """
    A comparison at one length as a table of Markdown: a row a model, and a line for each that failed.

    A difference of accuracies that is larger than the noise of the seeds (`summarize`) has a star.
    """
    costs = {row["model"]: row for row in results.costs if row["tokens"] == tokens}
    summary = {row["model"]: row for row in results.summary if row["tokens"] == tokens}
    references = [name for name in REFERENCES[results.family] if name in summary]
    title = f"{results.family}, {tokens} tokens"
    if costs:
        title += f", batch {next(iter(costs.values()))['batch']}, ratios to {_baseline(costs)}"
    if summary:
        task = results.tasks[str(tokens)]
        evaluated = results.settings["training"]["evaluate"]
        steps, rows = (results.settings["training"][key] for key in ("steps", "train_batch"))
        title += f"; {task['description']}, {task['train']} trained on in {steps} steps of {rows}, "
        title += f"{task[evaluated]} of {evaluated}, largest class {task['largest_class']:.1%}"
    head = ["model", *(COSTS if costs else ())]
    if summary:
        head += ["seeds", f"{evaluated} accuracy", *(f"minus {name}" for name in references)]
    rows = []
    for name in costs | summary:
        cells = _costs(costs.get(name), costs) if costs else []
        rows.append([name, *cells, *(_accuracies(summary.get(name), references) if summary else ())])
    failures = [f"- {row['model']}: {row['error']}" for row in results.failed if row["tokens"] == tokens]
    return "\n".join(["", title, "", markdown_table(head, rows), *([""] if failures else []), *failures, ""])


def tables(files: list[Path]) -> str:
    """All tables of results files, each with what it was measured on and its picture."""
    parts = []
    for file in files:
        results = load_results(file)
        for tokens in results.lengths:
            parts += [format_table(results, tokens), measured_on(results, tokens), ""]
            if plot_results(results, tokens) is not None:
                name = f"{picture_name(file, tokens)}.png"
                parts += [f"![{results.family}, {tokens} tokens: accuracy against costs](../results/{name})", ""]
    return "\n".join(parts)


def measured_on(results: Results, tokens: int) -> str:
    """Hardware and versions of the costs and of the accuracies at one length."""
    there = {"costs": results.costs, "training": results.runs}
    parts = []
    for part, word in (("costs", "Costs"), ("training", "Accuracies")):
        if any(row["tokens"] == tokens for row in there[part]):
            hardware, versions = (results.settings[part]["environment"][key] for key in ("hardware", "versions"))
            machine = hardware["accelerator"] or f"{hardware['processor']}, {hardware['threads']} thread(s)"
            parts.append(f"{word}: {machine}, torch {versions['torch']}, transformers {versions['transformers']}.")
    return " ".join(parts)


def picture_name(file: Path, tokens: int) -> str:
    """Of the pictures of a results file, without their endings."""
    return f"{file.stem}-{tokens}-tokens"


def plot_results(results: Results, tokens: int):
    """
    Accuracy against FLOPs and times at one length.

    Returns:
        The `matplotlib.figure.Figure`; None unless two models have accuracies of the test set and costs.
    """
    costs = {row["model"]: row for row in results.costs if row["tokens"] == tokens}
    summary = {row["model"]: row for row in results.summary if row["tokens"] == tokens and row["model"] in costs}
    if len(summary) < 2 or results.settings["training"]["evaluate"] != "test":
        return None
    baseline = _baseline(summary)
    task = results.tasks[str(tokens)]["description"]
    return plot_pareto(
        {
            "baseline": baseline,
            "attentions": [name for name in summary if name != baseline],
            "dataset": {"name": task},
            "efficiency": [{"batch": costs[baseline]["batch"], "tokens": tokens, **costs}],
            "summary": {
                name: {
                    "seeds": row["seeds"],
                    "test_accuracy_mean": row["accuracy_mean"],
                    "test_accuracy_std": row["accuracy_std"],
                }
                for name, row in summary.items()
            },
        }
    )


def _baseline(models: dict[str, Any]) -> str:
    """What costs are divided by: softmax, or, where that fails, the first model."""
    return BASELINE if BASELINE in models else next(iter(models))


def _costs(cost: dict[str, Any] | None, costs: dict[str, dict[str, Any]]) -> list[str]:
    if cost is None:
        return [""] * len(COSTS)
    baseline = costs[_baseline(costs)]
    cells = [f"{cost['parameters']:,}", f"{cost['train_step_flops'] / 1e9:.2f}"]
    cells.append(f"{cost['peak_memory_bytes'] / 1e6:.1f}")
    for kind in ("train_step_ms", "inference_ms"):
        median, base = cost[kind]["median"], baseline[kind]["median"]
        cells += [f"{median:.1f}", "1" if cost is baseline else f"{median / base:.3f}"]
    return cells


def _accuracies(row: dict[str, Any] | None, references: list[str]) -> list[str]:
    if row is None:
        return [""] * (2 + len(references))
    cells = [str(row["seeds"]), percent(row["accuracy_mean"], row["accuracy_std"]) + " %"]
    for name in references:
        found = row.get(f"minus_{name}")
        cell = "" if found is None else percent(found["difference_mean"], found["difference_std"], "+")
        cells.append(f"{cell} *" if found is not None and found["significant"] else cell)
    return cells
