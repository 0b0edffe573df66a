"""What a comparison has found: the rows of its file, so that costs and accuracies can be measured apart."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_primaldual.measure import save_results
from hf_primaldual.training.runs import compare

from .models import BASELINE

# Besides softmax, what the accuracies of a family are compared with.
REFERENCES = {"text": (BASELINE, "nystrom"), "image": (BASELINE, "pvtv2")}


@dataclass
class Results:
    """
    What a file holds: `settings` of the `model`, of `costs` and of the `training`, the last two with the environment
    that they were measured in; `tasks`, the data by the number of tokens as a string; `costs`, a row for each model
    and length; `runs`, one for each model, length and seed; and `failed`, the errors.
    """

    family: str
    settings: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    costs: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Numbers of tokens, of which each is a table."""
        return sorted({row["tokens"] for row in (*self.costs, *self.runs, *self.failed)})

    def costs_at(self, tokens: int) -> dict[str, dict[str, Any]]:
        """The rows of costs of one length, by model."""
        return {row["model"]: row for row in self.costs if row["tokens"] == tokens}

    def summary_at(self, tokens: int) -> dict[str, dict[str, Any]]:
        """Accuracies over the seeds at one length, by model."""
        runs = [run for run in self.runs if run["tokens"] == tokens]
        return {row["model"]: row for row in summarize(runs, REFERENCES[self.family])}

    def save(self, folder: str | Path) -> Path:
        """Writes JSON and CSV, named by family, type and machine; returns the JSON file."""
        name = f"rivals-{self.family}-{self.settings['model']['dtype']}"
        parts = {key: value for key, value in asdict(self).items() if key not in ("costs", "runs")}
        summary = [row for tokens in self.lengths for row in self.summary_at(tokens).values()]
        return save_results(folder, name, {**parts, "rows": [*self.costs, *summary, *self.runs]})

    def put_costs(self, tokens: int, rows: list[dict[str, Any]], failed: dict[str, str]) -> None:
        """What the models cost at one length, in place of all that was known of it: ratios are within one run."""
        self.costs = [row for row in self.costs if row["tokens"] != tokens] + rows
        self.put_failed("costs", tokens, failed)

    def put_run(self, run: dict[str, Any]) -> None:
        """A training, in place of the one with its model, length and seed."""
        self.runs = [row for row in self.runs if any(row[key] != run[key] for key in ("model", "tokens", "seed"))]
        self.runs.append(run)

    def put_failed(self, part: str, tokens: int, failed: dict[str, str]) -> None:
        """The errors of one length by model, in `"costs"` or in `"training"`."""
        self.failed = [row for row in self.failed if (row["part"], row["tokens"]) != (part, tokens)]
        self.failed += [
            {"part": part, "tokens": tokens, "model": name, "error": error} for name, error in failed.items()
        ]

    def take_over(self, path: str | Path) -> None:
        """Starts with what a file holds, which must be of the same family and model, and its runs of one training."""
        old, name = load_results(path), Path(path).name
        if old.family != self.family:
            raise ValueError(f"`update` must name a file of the family {self.family}, got {name} of {old.family}.")
        for part in self.settings.keys() & old.settings.keys() - {"costs"}:
            ours, theirs = (json.loads(json.dumps(_in_common(each.settings[part]))) for each in (self, old))
            if differing := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
                raise ValueError(
                    f"`update`: {name} has another {part}: its {', '.join(differing)} must be those asked for."
                )
        if "training" in self.settings and "training" in old.settings:
            training = self.settings["training"]
            training["seeds"] = sorted({*training["seeds"], *old.settings["training"]["seeds"]})
        self.settings, self.tasks = old.settings | self.settings, old.tasks
        self.costs, self.runs, self.failed = old.costs, old.runs, old.failed


def _in_common(settings: dict[str, Any]) -> dict[str, Any]:
    """What all runs of a file share: the settings, and of the environment what accuracies depend on."""
    kept = {key: value for key, value in settings.items() if key not in ("environment", "seeds")}
    if "environment" in settings:
        hardware, versions = (settings["environment"][part] for part in ("hardware", "versions"))
        kept |= {key: hardware[key] for key in ("processor", "accelerator")}
        kept |= {key: versions[key] for key in ("torch", "transformers")}
    return kept


def load_results(path: str | Path) -> Results:
    """Reads a file that `Results.save` wrote."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    return Results(
        **{key: found[key] for key in ("family", "settings", "tasks", "failed")},
        costs=[row for row in found["rows"] if "parameters" in row],
        runs=[row for row in found["rows"] if "seed" in row],
    )


def summarize(runs: list[dict[str, Any]], references: Iterable[str] = (BASELINE,)) -> list[dict[str, Any]]:
    """
    Mean and deviation over the seeds of the runs of one length, and the difference to each reference that has the same
    seeds, as `training.runs.compare` tests it; references without runs are left out.
    """
    by_model: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        by_model.setdefault(run["model"], []).append(run)
    seeds = {name: [run["seed"] for run in own] for name, own in by_model.items()}
    # In the words of the package's training scripts.
    named = [{"attention": run["model"], "seed": run["seed"], "test_accuracy": run["accuracy"]} for run in runs]
    differences = {}
    for reference in references:
        if reference in by_model:
            paired = [name for name in by_model if name != reference and seeds[name] == seeds[reference]]
            differences[reference] = compare(named, paired, reference)
    rows = []
    for name, own in by_model.items():
        accuracies = [run["accuracy"] for run in own]
        rows.append(
            {
                **{key: own[0][key] for key in ("model", "attn_implementation", "width", "tokens")},
                "seeds": len(own),
                "accuracy_mean": statistics.fmean(accuracies),
                "accuracy_std": statistics.stdev(accuracies) if len(own) > 1 else None,
                **{f"minus_{each}": found[name] for each, found in differences.items() if name in found},
            }
        )
    return rows
