"""
Builds the trained checkpoints whose cards are committed, ready to be published: runs the command that each
`results.json` records, compares the accuracies with the committed ones, and checks the folder as `scripts/publish.py`
does.

    python scripts/build_checkpoints.py
    python scripts/build_checkpoints.py --names primal-dual-basicmotions-bn

Stopped, it goes on where it was. Another processor may round otherwise: `--tolerance` allows for it.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.hub.card import write_card
from hf_primaldual.hub.checks import check
from hf_primaldual.hub.results import TASKS, load_results

ROOT = Path(__file__).parents[1]


@dataclass
class BuildArguments:
    """Which checkpoints, and where they go."""

    names: list[str] | None = HfArg(default=None, help="Folders of --cards. Default: all.")
    cards: str = HfArg(default=str(ROOT / "model_cards"), help="Folder of the committed cards.")
    output_dir: str = HfArg(default="outputs/checkpoints", help="Where the checkpoints are built.")
    tolerance: float = HfArg(default=0.0, help="Allowed difference of an accuracy, a fraction.")


def main(argv: list[str] | None = None) -> list[Path]:
    (args,) = HfArgumentParser(BuildArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    cards = Path(args.cards)
    # Encoders without a head are converted and measured, not trained: by the command of their cards.
    trained = (path for path in cards.glob("*/results.json") if load_results(path)["task"] in TASKS)
    names = args.names or sorted(path.parent.name for path in trained)
    built = [build(cards / name, Path(args.output_dir) / name, args.tolerance) for name in names]
    print("\n".join(f"ready: {folder}" for folder in built))
    return built


def build(card: Path, output: Path, tolerance: float) -> Path:
    """One checkpoint, trained as its committed card says; `ValueError` where it gave other accuracies."""
    committed = load_results(card / "results.json")
    subprocess.run(command(committed["command"], output), cwd=ROOT, check=True)
    (found,) = (ROOT / output).glob("*/results.json")
    differing = differences(committed, load_results(found), tolerance)
    if differing:
        raise ValueError(f"{found.parent} differs from the committed card of {card.name}: {'; '.join(differing)}")
    # A run of an older version has the card of its time.
    write_card(found.parent)
    check(found.parent)
    return found.parent


def command(recorded: str, output: Path) -> list[str]:
    """The recorded command with this interpreter, which resumes and writes into `output`."""
    # The last of a flag counts.
    own = ["--output_dir", output, "--results_dir", output / "kept"]
    own += ["--resume_from_checkpoint", "true", "--overwrite", "false"]
    return [sys.executable, *shlex.split(recorded)[1:], *map(str, own)]


def differences(committed: dict[str, Any], built: dict[str, Any], tolerance: float) -> list[str]:
    """Where two results disagree: the released attention, and each run's accuracies by attention and seed."""
    found = []
    if built["attention"] != committed["attention"]:
        found.append(f"attention {built['attention']} for {committed['attention']}")
    runs = {(run["attention"], run["seed"]): run for run in built["runs"]}
    for one in committed["runs"]:
        other = runs.get((one["attention"], one["seed"]))
        for key in ("validation_accuracy", "test_accuracy"):
            if other is None or abs(other[key] - one[key]) > tolerance:
                given = "no run" if other is None else other[key]
                found.append(f"{one['attention']}, seed {one['seed']}: {key} {given} for {one[key]}")
    return found


if __name__ == "__main__":
    run(main)
