"""
Measures again what the models of committed cards cost, as after a change that makes them faster or on a machine that
has nothing else to do: the models and sizes of the command that each `results.json` records. Nothing is trained.
Writes results and cards; `scripts/render_results.py` then writes the documents.

    python scripts/measure_cards.py
    python scripts/measure_cards.py --names primal-dual-basicmotions-bn
"""

import datetime
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from sources import IMAGE_SOURCES, TEXT_SOURCES
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.commands.train import KINDS
from hf_primaldual.hub.card import write_card
from hf_primaldual.hub.results import TASKS, load_results, save_results
from hf_primaldual.measure import environment
from hf_primaldual.training.comparison import measure_costs

ROOT = Path(__file__).parents[1]
# The kind of task of each training program, and the data of this repository that it knows.
PROGRAMS = {
    "run_time_series_classification.py": ("time-series", None),
    "run_sequence_classification.py": ("text", TEXT_SOURCES),
    "run_language_modeling.py": ("language", TEXT_SOURCES),
    "run_image_classification.py": ("image", IMAGE_SOURCES),
}


@dataclass
class MeasureArguments:
    """Which cards, and where they are."""

    names: list[str] | None = HfArg(default=None, help="Folders of --cards. Default: all that were trained.")
    cards: str = HfArg(default=str(ROOT / "model_cards"), help="Folder of the cards.")
    results_dir: str = HfArg(default=str(ROOT / "results" / "training"), help="Where the same results lie by data.")


def main(argv: list[str] | None = None) -> list[Path]:
    (args,) = HfArgumentParser(MeasureArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    cards = Path(args.cards)
    # Encoders without a head are converted and measured, not trained: by the command of their cards.
    trained = (path for path in cards.glob("*/results.json") if load_results(path)["task"] in TASKS)
    names = args.names or sorted(path.parent.name for path in trained)
    return [measure_again(cards / name, Path(args.results_dir)) for name in names]


def measure_again(folder: Path, results_dir: Path) -> Path:
    """A card with the costs of now."""
    results = load_results(folder / "results.json")
    _, program, *flags = shlex.split(results["command"])
    kind, sources = PROGRAMS[Path(program).name]
    data_args, model_args, args = KINDS[kind].parse(flags)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    task = KINDS[kind].task(data_args, model_args, args, sources)
    configs = {name: task.config(name) for name in model_args.names}
    # Of the table in results_dir, of which the card may be another training: `make demo` has a card of its own.
    kept = results_dir / f"{results['dataset']['name'].lower()}.json"
    is_kept = kept.is_file() and load_results(kept) == results
    results["efficiency"] = measure_costs(task, configs, model_args.baseline, args)
    results["measured"] = {"date": datetime.date.today().isoformat(), **environment()}
    for path in [folder / "results.json", *([kept] if is_kept else [])]:
        save_results(results, path)
    card = write_card(folder)
    print(f"measured: {card}")
    return card


if __name__ == "__main__":
    run(main)
