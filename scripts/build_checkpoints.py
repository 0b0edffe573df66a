"""
Builds the trained checkpoints whose cards are committed, ready to be published: trains the released run of each, by
the command and with the seed that its `results.json` records, compares the accuracies with the recorded ones, and
checks the folder as `scripts/publish.py` does.

    python scripts/build_checkpoints.py
    python scripts/build_checkpoints.py --names primal-dual-basicmotions-bn

Stopped, it goes on where it was. Another processor may round otherwise: `--tolerance` allows for it.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cards import CardsArguments, recorded_training
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.hub.checkpoint import save_checkpoint
from hf_primaldual.hub.checks import check
from hf_primaldual.hub.results import load_results
from hf_primaldual.training.comparison import train_run


@dataclass
class BuildArguments(CardsArguments):
    """Which checkpoints, and where they go."""

    output_dir: str = HfArg(default="outputs/checkpoints", help="Where the checkpoints are built.")
    tolerance: float = HfArg(default=0.0, help="Allowed difference of an accuracy, a fraction.")
    keep: bool = HfArg(default=False, help="Puts weights and processor into the card's folder, which needs no code.")


def main(argv: list[str] | None = None) -> list[Path]:
    (args,) = HfArgumentParser(BuildArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    built = []
    for card in args.folders():
        built.append(build(card, Path(args.output_dir), args.tolerance))
        if args.keep:
            shutil.copytree(built[-1], card, ignore=shutil.ignore_patterns("*.py"), dirs_exist_ok=True)
    print("\n".join(f"ready: {folder}" for folder in built))
    return built


def build(card: Path, output: Path, tolerance: float) -> Path:
    """One checkpoint, trained as its committed card says; `ValueError` where it gave other accuracies."""
    results = load_results(card / "results.json")
    (released,) = (each for each in results["runs"] if each["released"])
    task, model_args, args = recorded_training(results)
    name, runs = released["attention"], output / "runs" / card.name
    args = replace(args, **model_args.training_fields(name))
    found = train_run(task, task.config(name), args, released["seed"], runs)
    if differing := differences(released, found, tolerance):
        raise ValueError(f"{runs} differs from the committed card of {card.name}: {'; '.join(differing)}")
    model = task.model_class.from_pretrained(runs / "model")
    plots = [card / plot for plot in results.get("plots", ())]
    folder = save_checkpoint(output / card.name, model, task.processor, results, plots)
    check(folder)
    shutil.rmtree(runs)
    return folder


def differences(committed: dict[str, Any], found: dict[str, Any], tolerance: float) -> list[str]:
    """Where a run's accuracies are not the committed ones."""
    return [
        f"{key} {found[key]} for {committed[key]}"
        for key in ("validation_accuracy", "test_accuracy")
        if abs(found[key] - committed[key]) > tolerance
    ]


if __name__ == "__main__":
    run(main)
