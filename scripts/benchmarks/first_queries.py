"""
What causal Attention-BN should do at the first tokens of a sequence, whose keys are so few that their variance says
little: a language model trained by a recipe without the scaling, and with one that comes in over more or fewer keys.

    python scripts/benchmarks/first_queries.py
    python scripts/benchmarks/first_queries.py --output results

A run that is in the file of an earlier call is not run again. The validation set alone is read.
"""

import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paths  # noqa: F401
import torch
from sources import TEXT_SOURCES
from transformers import set_seed
from transformers.hf_argparser import HfArg

from hf_primaldual.commands.train import KINDS
from hf_primaldual.flags import Parser
from hf_primaldual.measure import save_results
from hf_primaldual.modeling import intervals_primal_dual as intervals
from hf_primaldual.training.task import Task
from hf_primaldual.training.trainer import build_trainer

NAME = "first-queries"
# The attention, its settings, and how many keys more than one a query sees where it divides by the whole power.
VARIANTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "softmax": ("softmax", {}, intervals.RAMP),
    "bn, recentred only": ("bn", {"bn_scaling": False}, intervals.RAMP),
    "bn, no ramp": ("bn", {}, 1),
    **{f"bn, ramp of {ramp}": ("bn", {}, ramp) for ramp in (32, 128)},
}


@dataclass
class FirstQueriesArguments:
    """What is trained."""

    recipe: str = HfArg(default="scripts/configs/newsgroups_language.yaml", help="A file of scripts/configs.")
    variants: list[str] = HfArg(default_factory=lambda: list(VARIANTS), help=f"Of {'; '.join(VARIANTS)}.")
    seeds: list[int] = HfArg(default_factory=lambda: [0, 1, 2], help="One training run for each.")
    max_steps: int = HfArg(default=1000, help="Steps of each run.")
    output: str | None = HfArg(default=None, help="Folder for JSON and CSV, named by the machine.")


def train(task: Task, args: Any, variant: str, seed: int) -> dict[str, float]:
    """One run: its validation loss in nats a token, and the norms of its gradients before they are clipped."""
    attention, fields, ramp = VARIANTS[variant]
    shipped, intervals.RAMP = intervals.RAMP, ramp
    try:
        set_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(task, task.config(attention, **fields), args, seed, Path(folder))
            trainer.train()
            found = trainer.evaluate()
    finally:
        intervals.RAMP = shipped
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return {
        "validation_loss": found["eval_loss"],
        "validation_perplexity": math.exp(found["eval_loss"]),
        "validation_accuracy": found["eval_accuracy"],
        "largest_gradient_norm": max(norms),
        "median_gradient_norm": statistics.median(norms),
        # Behind the warm-up, where the learning rate is at its highest.
        "largest_gradient_norm_of_second_half": max(norms[len(norms) // 2 :]),
    }


def earlier(output: str | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a file that a call with the same settings has left."""
    for path in Path(output).glob(f"{NAME}-*.json") if output is not None else ():
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["settings"] == settings:
            return results["rows"]
    return []


def main(argv: Sequence[str] | None = None) -> Path | None:
    (args,) = Parser(FirstQueriesArguments).parse_args_into_dataclasses(argv)
    kind = KINDS["language"]
    *others, run_args = kind.parse([args.recipe, "--use_cpu", "true", "--disable_tqdm", "true"])
    # Every step's gradients are logged, and the last weights are kept.
    silent = {"logging_strategy": "steps", "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    run_args = replace(run_args, **silent, load_best_model_at_end=False, max_steps=args.max_steps)
    task = kind.task(*others, run_args, TEXT_SOURCES)
    if run_args.threads is not None:
        torch.set_num_threads(run_args.threads)
    settings = {"recipe": args.recipe, "max_steps": args.max_steps}
    rows, path = earlier(args.output, settings), None
    there = {(row["attention"], row["seed"]) for row in rows}
    for seed in args.seeds:
        for variant in args.variants:
            if (variant, seed) in there:
                continue
            rows.append({"attention": variant, "seed": seed, **train(task, run_args, variant, seed)})
            loss, norm = rows[-1]["validation_loss"], rows[-1]["largest_gradient_norm"]
            print(f"{variant}, seed {seed}: {loss:.4f} nats a token, gradients up to {norm:.2f}", flush=True)
            if args.output is not None:
                path = save_results(args.output, NAME, {"settings": settings, "rows": rows})
    if path is not None:
        print(f"written: {path}")
    return path


if __name__ == "__main__":
    main()
