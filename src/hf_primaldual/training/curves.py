"""Learning curves: loss and validation accuracy of every attention over the epochs."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from .runs import of_attention

_PANELS = {"loss": "training loss", "eval_loss": "validation loss", "eval_accuracy": "validation accuracy"}


def plot_learning_curves(runs: list[dict[str, Any]], names: tuple[str, ...], path: Path) -> None:
    """Draws the mean over seeds of each run's `history`, and the range of all seeds around it; needs no display."""
    histories = {
        name: pd.DataFrame([entry for run in of_attention(runs, name) for entry in run["history"]]) for name in names
    }
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        for name, history in histories.items():
            if key in history:
                curve = history.dropna(subset=key).groupby("epoch")[key].agg(["mean", "min", "max"])
                (line,) = axes.plot(curve.index, curve["mean"], label=name)
                axes.fill_between(curve.index, curve["min"], curve["max"], alpha=0.15, color=line.get_color())
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
