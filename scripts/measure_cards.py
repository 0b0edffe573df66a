"""
Measures again what the models of committed cards cost, as after a change that makes them faster or on a machine that
has nothing else to do: the models and sizes of the command that each `results.json` records. Nothing is trained.
Writes results and cards; `scripts/render_results.py` then writes the documents.

    python scripts/measure_cards.py
    python scripts/measure_cards.py --names primal-dual-basicmotions-bn
"""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cards import ROOT, CardsArguments, recorded_training
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.hub.card import write_card
from hf_primaldual.hub.results import load_results, save_results
from hf_primaldual.measure import environment
from hf_primaldual.training.comparison import measure_costs


@dataclass
class MeasureArguments(CardsArguments):
    """Which cards, and where their results lie as well."""

    results_dir: str = HfArg(default=str(ROOT / "results" / "training"), help="Where the same results lie by data.")


def main(argv: list[str] | None = None) -> list[Path]:
    (args,) = HfArgumentParser(MeasureArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)
    return [measure_again(folder, Path(args.results_dir)) for folder in args.folders()]


def measure_again(folder: Path, results_dir: Path) -> Path:
    """A card with the costs of now."""
    results = load_results(folder / "results.json")
    # A card may be of another training than that of its data in results_dir, as the card of `make demo` is.
    kept = results_dir / f"{results['dataset']['name'].lower()}.json"
    is_kept = kept.is_file() and load_results(kept) == results
    task, model_args, args = recorded_training(results)
    configs = {name: task.config(name) for name in model_args.names}
    results["efficiency"] = measure_costs(task, configs, model_args.baseline, args)
    results["measured"] = {"date": datetime.date.today().isoformat(), **environment()}
    for path in [folder / "results.json", *([kept] if is_kept else [])]:
        save_results(results, path)
    card = write_card(folder)
    print(f"measured: {card}")
    return card


if __name__ == "__main__":
    run(main)
