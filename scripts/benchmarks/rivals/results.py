"""What a comparison has found: the rows of its file, so that costs and accuracies can be measured apart."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_primaldual.measure import save_results
from hf_primaldual.training.runs import compare

from .models import BASELINE

# What the accuracies of a family are compared with.
REFERENCES = {"text": (BASELINE, "nystrom"), "image": (BASELINE, "pvtv2")}
Row = dict[str, Any]


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
    costs: list[Row] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Numbers of tokens, of which each is a table."""
        return sorted({row["tokens"] for row in (*self.costs, *self.runs, *self.failed)})

    def costs_at(self, tokens: int) -> dict[str, Row]:
        """The rows of costs of one length, by model."""
        return {row["model"]: row for row in self.costs if row["tokens"] == tokens}

    def summary_at(self, tokens: int) -> dict[str, Row]:
        """Accuracies over the seeds at one length, by model."""
        return summarize([run for run in self.runs if run["tokens"] == tokens], REFERENCES[self.family])

    def save(self, folder: str | Path) -> Path:
        """Writes JSON and CSV, named by family, type and machine; returns the JSON file."""
        summary = [row for tokens in self.lengths for row in self.summary_at(tokens).values()]
        parts = {"family": self.family, "settings": self.settings, "tasks": self.tasks, "failed": self.failed}
        name = f"rivals-{self.family}-{self.settings['model']['dtype']}"
        return save_results(folder, name, {**parts, "rows": [*self.costs, *summary, *self.runs]})

    def put_costs(self, tokens: int, rows: list[Row], failed: dict[str, str]) -> None:
        """What the models cost at one length, in place of all that was known of it: ratios are within one run."""
        self.costs = [row for row in self.costs if row["tokens"] != tokens] + rows
        self.put_failed("costs", tokens, failed)

    def put_run(self, run: Row) -> None:
        """A training, in place of the one with its model, length and seed."""
        self.runs = [row for row in self.runs if any(row[key] != run[key] for key in ("model", "tokens", "seed"))]
        self.runs.append(run)

    def put_failed(self, part: str, tokens: int, failed: dict[str, str]) -> None:
        """The errors of one length by model, in `"costs"` or in `"training"`."""
        self.failed = [row for row in self.failed if (row["part"], row["tokens"]) != (part, tokens)]
        about = {"part": part, "tokens": tokens}
        self.failed += [{**about, "model": name, "error": error} for name, error in failed.items()]

    def take_over(self, path: str | Path) -> None:
        """Starts with what a file holds, which must be of the same family and model, and its runs of one training."""
        old, name = load_results(path), Path(path).name
        if old.family != self.family:
            raise ValueError(f"`update` must name a file of the family {self.family}, got {name} of {old.family}.")
        for part in self.settings.keys() & old.settings.keys() - {"costs"}:
            ours, theirs = _shared(self.settings[part]), _shared(old.settings[part])
            if differing := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
                raise ValueError(
                    f"`update`: {name} has another {part}: its {', '.join(differing)} must be those asked for."
                )
            if part == "training":
                seeds = {*self.settings[part]["seeds"], *old.settings[part]["seeds"]}
                self.settings[part]["seeds"] = sorted(seeds)
        self.settings, self.tasks = old.settings | self.settings, old.tasks
        self.costs, self.runs, self.failed = old.costs, old.runs, old.failed


def _shared(settings: dict[str, Any]) -> dict[str, Any]:
    """What all runs of a file share: the settings, and of the environment what accuracies depend on."""
    environment = settings.get("environment", {"hardware": {}, "versions": {}})
    machine = environment["hardware"] | environment["versions"]
    kept = {key: machine.get(key) for key in ("processor", "accelerator", "torch", "transformers")}
    return kept | {key: value for key, value in settings.items() if key not in ("environment", "seeds")}


def load_results(path: str | Path) -> Results:
    """Reads a file that `Results.save` wrote."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    return Results(
        **{key: found[key] for key in ("family", "settings", "tasks", "failed")},
        costs=[row for row in found["rows"] if "parameters" in row],
        runs=[row for row in found["rows"] if "seed" in row],
    )


def summarize(runs: list[Row], references: tuple[str, ...] = (BASELINE,)) -> dict[str, Row]:
    """
    By model the mean and deviation over the seeds of the runs of one length, and the difference to each reference that
    has the same seeds, as `training.runs.compare` tests it; references without runs are left out.
    """
    models: dict[str, list[Row]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        models.setdefault(run["model"], []).append(run)
    rows = {}
    for name, own in models.items():
        accuracies = [run["accuracy"] for run in own]
        rows[name] = {key: own[0][key] for key in ("model", "attn_implementation", "width", "tokens")}
        rows[name] |= {"seeds": len(own), "accuracy_mean": statistics.fmean(accuracies)}
        rows[name]["accuracy_std"] = statistics.stdev(accuracies) if len(own) > 1 else None
    seeds = {name: [run["seed"] for run in own] for name, own in models.items()}
    # In the words of the package's training scripts.
    named = [{"attention": run["model"], "seed": run["seed"], "test_accuracy": run["accuracy"]} for run in runs]
    for reference in models.keys() & references:
        paired = [name for name in models if name != reference and seeds[name] == seeds[reference]]
        for name, difference in compare(named, paired, reference).items():
            rows[name][f"minus_{reference}"] = difference
    return rows
