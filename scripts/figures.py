"""
Draws the paper's figures 1 to 4 as PNG and SVG, with their numbers as JSON and CSV; or, from the results of a training
script, accuracy against cost.

    python scripts/figures.py --figure 1 2 3 4 --output results
    python scripts/figures.py --figure 1 2 3 4 --time 120 --output results
    python scripts/figures.py --pareto results/training/basicmotions.json --output results

FLOPs and memory are counted. With `--time`, the models are run as well, from small sizes to large ones, as long as the
seconds last: memory is measured then, and time. A file of numbers that is there already is gone on with, and drawn
again. Figures 1 and 2 are of the same models, as are 3 and 4: they are in one file.
"""

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.hub.results import load_results
from hf_primaldual.measure import save_results
from hf_primaldual.measure.figures import (
    FIGURES,
    HEADS,
    LAYERS,
    LENGTHS,
    WIDTHS,
    count_size,
    measure_sizes,
    plot_figure,
)
from hf_primaldual.measure.plots import plot_pareto
from hf_primaldual.measure.results import results_path
from hf_primaldual.pictures import write_pictures


@dataclass
class FigureArguments:
    """What is drawn."""

    figure: list[int] = HfArg(default_factory=list, help="Numbers of the paper's figures, 1 to 4.")
    pareto: str | None = HfArg(default=None, help="A results file of a training script.")
    widths: list[int] = HfArg(default_factory=lambda: list(WIDTHS), help="Widths of the model.")
    tokens: list[int] = HfArg(default_factory=lambda: list(LENGTHS), help="Lengths.")
    attn_implementation: list[str] = HfArg(
        default_factory=lambda: ["eager", "sdpa"], help="Back-ends, a set of figures each; the paper's is eager."
    )
    time: float = HfArg(default=0, help="Seconds to run the models of a pair of figures on a back-end.")
    rounds: int = HfArg(default=5, help="Timed steps of each model.")
    threads: int | None = HfArg(default=None, help="Threads; torch's own choice by default.")
    output: str = HfArg(default="outputs/figures", help="Folder of pictures and numbers.")

    def __post_init__(self):
        if unknown := [number for number in self.figure if number not in FIGURES]:
            raise ValueError(f"`figure` must be of {', '.join(map(str, FIGURES))}, got {unknown[0]}.")
        if not self.figure and self.pareto is None:
            raise ValueError("`figure` or `pareto` must be given, got neither of them.")


def print_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows[1:]:
        ratios = (f"{key} {ratio:.3f}" for key, ratio in row["ratio"].items())
        size = f"width {row['width']:>4}", f"{row['tokens']:>6} tokens"
        print(f"{row['attention']:<13}", row["attn_implementation"], *size, *ratios, sep="  ", flush=True)


def draw(numbers: list[int], attn_implementation: str, args: FigureArguments) -> None:
    """Figures of the same models: one file of numbers, a picture each."""
    torch.manual_seed(0)
    name = f"figure-{'-'.join(map(str, numbers))}-{attn_implementation}"
    path = results_path(args.output, name)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []

    def keep(new: list[dict[str, Any]]) -> None:
        print_rows(new)
        settings = {"layers": LAYERS, "heads": HEADS, "pairs": 1}
        save_results(args.output, name, {"settings": settings, "rows": rows})

    attentions = (FIGURES[numbers[0]].baseline, *(FIGURES[number].attention for number in numbers))
    for width in args.widths:
        for tokens in args.tokens:
            if not any((row["width"], row["tokens"]) == (width, tokens) for row in rows):
                rows += (size := count_size(attentions, width, tokens, attn_implementation))
                keep(size)
    if args.time:
        check_threads(path)
        measure_sizes(rows, args.time, args.rounds, keep)
    results = json.loads(path.read_text(encoding="utf-8"))
    for number in numbers:
        write_pictures(plot_figure(number, results), args.output, f"figure-{number}-{attn_implementation}")


def check_threads(path: Path) -> None:
    results = json.loads(path.read_text(encoding="utf-8"))
    before, now = results["hardware"]["threads"], torch.get_num_threads()
    if before != now and any("ms" in row for row in results["rows"]):
        raise ValueError(f"`threads` must be {before}, as of the times that {path.name} has already, got {now}.")


def main(argv: list[str] | None = None) -> None:
    args = HfArgumentParser(FigureArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)[0]
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    for _, numbers in groupby(sorted(set(args.figure)), key=lambda number: FIGURES[number].baseline):
        numbers = list(numbers)
        for attn_implementation in args.attn_implementation:
            draw(numbers, attn_implementation, args)
    if args.pareto is not None:
        write_pictures(plot_pareto(load_results(args.pareto)), args.output, f"pareto-{Path(args.pareto).stem}")


if __name__ == "__main__":
    run(main)
