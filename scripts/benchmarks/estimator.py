"""
What the estimator of series reaches by its defaults, on the published split of sets of the aeon wheel, with each seed.

    python scripts/benchmarks/estimator.py
    python scripts/benchmarks/estimator.py --sets GunPoint --seeds 0 --output results
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers.hf_argparser import HfArg

from hf_primaldual import PrimalDualTimeSeriesClassifier
from hf_primaldual.data import load_uea, series_arrays
from hf_primaldual.flags import Parser
from hf_primaldual.measure.results import save_results


@dataclass
class EstimatorArguments:
    """What is trained on."""

    sets: list[str] = HfArg(
        default_factory=lambda: ["JapaneseVowels", "BasicMotions", "ItalyPowerDemand", "GunPoint", "ArrowHead"],
        help="Sets that `load_uea` loads.",
    )
    seeds: list[int] = HfArg(default_factory=lambda: [0, 1, 2, 3, 4], help="Values of `random_state`.")
    output: str | None = HfArg(default=None, help="Folder for JSON and CSV, named by the machine.")


def fit(splits: dict[str, Any], seed: int) -> dict[str, float]:
    """Accuracy on the test set of a classifier by defaults, and how long its training took."""
    train, test = ((list(series_arrays(splits[name])), np.array(splits[name]["labels"])) for name in ("train", "test"))
    classifier, started = PrimalDualTimeSeriesClassifier(random_state=seed), time.perf_counter()
    classifier.fit(*train)
    seconds = time.perf_counter() - started
    return {"test_accuracy": classifier.score(*test), "steps": classifier.n_iter_, "fit_seconds": seconds}


def main(argv: Sequence[str] | None = None) -> Path | None:
    (args,) = Parser(EstimatorArguments).parse_args_into_dataclasses(argv)
    rows = []
    for name in args.sets:
        splits = load_uea(name)
        for seed in args.seeds:
            rows.append({"dataset": name, "seed": seed, **fit(splits, seed)})
            print("{dataset}, seed {seed}: {test_accuracy:.4f} in {fit_seconds:.1f} s".format(**rows[-1]), flush=True)
    if args.output is None:
        return None
    path = save_results(args.output, "estimator", {"settings": {"sets": args.sets, "seeds": args.seeds}, "rows": rows})
    print(f"written: {path}")
    return path


if __name__ == "__main__":
    main()
