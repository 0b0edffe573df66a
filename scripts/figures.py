"""
Draws the paper's figures 1 to 4 as PNG and SVG, with their numbers as JSON and CSV; or, from the results of a training
script, accuracy against cost.

    python scripts/figures.py --figure 1 2 3 4 --budget 240 --output results
    python scripts/figures.py --figure 2 --attn_implementation eager --budget 0 --output results
    python scripts/figures.py --pareto results/training/basicmotions.json --output results

FLOPs are counted; memory and time are measured while the budget lasts, in seconds, and beyond it memory is counted too
and time left out. Figures 1 and 2 are of the same models, as are 3 and 4: they are measured once, together.
"""

from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from hf_primaldual.commands import run
from hf_primaldual.hub.results import load_results
from hf_primaldual.measure import save_results
from hf_primaldual.measure.figures import FIGURES, LENGTHS, WIDTHS, figure_rows, plot_figure
from hf_primaldual.measure.plots import plot_pareto, write_pictures


@dataclass
class FigureArguments:
    """What is drawn."""

    figure: list[int] = HfArg(default_factory=list, help="Numbers of the paper's figures, 1 to 4.")
    pareto: str | None = HfArg(default=None, help="A results file of a training script.")
    widths: list[int] = HfArg(default_factory=lambda: list(WIDTHS), help="Widths of the model.")
    tokens: list[int] = HfArg(default_factory=lambda: list(LENGTHS), help="Lengths.")
    attn_implementation: str = HfArg(default="sdpa", help="Back-end of all; the paper's is eager.")
    budget: float = HfArg(default=300, help="Seconds to measure the models of a pair of figures.")
    rounds: int = HfArg(default=5, help="Timed steps of each model.")
    threads: int | None = HfArg(default=None, help="Threads; torch's own choice by default.")
    output: str = HfArg(default="outputs/figures", help="Folder of pictures and numbers.")

    def __post_init__(self):
        if unknown := [number for number in self.figure if number not in FIGURES]:
            raise ValueError(f"`figure` must be of {', '.join(map(str, FIGURES))}, got {unknown[0]}.")
        if not self.figure and self.pareto is None:
            raise ValueError("`figure` or `pareto` must be given, got neither.")


def print_row(row: dict) -> None:
    cells = [f"{row['attention']:<13}", f"width {row['width']:>4}", f"{row['tokens']:>6} tokens"]
    cells += [f"{key} {'-' if row[key] is None else f'{row[key]:.3f}':>6}" for key in ("flops", "memory", "time")]
    print(*cells, f"memory {row['origin']}", sep="  ", flush=True)


def draw(numbers: list[int], args: FigureArguments) -> None:
    """Figures of the same models: one file of numbers, a picture each."""
    torch.manual_seed(0)
    sizes = (args.widths, args.tokens, args.budget, args.attn_implementation, args.rounds)
    rows = figure_rows(FIGURES[numbers[0]], *sizes, report=print_row)
    settings = {key: value for key, value in asdict(args).items() if key not in ("output", "pareto", "figure")}
    name = f"figure-{'-'.join(map(str, numbers))}-{args.attn_implementation}"
    print(f"written: {save_results(args.output, name, {'settings': settings, 'rows': rows})}")
    for number in numbers:
        title = f"Figure {number}: a training step of a text model of 2 layers and 8 heads, {args.attn_implementation}"
        picture = plot_figure(FIGURES[number], rows, title)
        write_pictures(picture, args.output, f"figure-{number}-{args.attn_implementation}")


def main(argv: list[str] | None = None) -> None:
    args = HfArgumentParser(FigureArguments, allow_abbrev=False).parse_args_into_dataclasses(argv)[0]
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    for _, numbers in groupby(sorted(set(args.figure)), key=lambda number: FIGURES[number].baseline):
        draw(list(numbers), args)
    if args.pareto is not None:
        write_pictures(plot_pareto(load_results(args.pareto)), args.output, f"pareto-{Path(args.pareto).stem}")


if __name__ == "__main__":
    run(main)
