"""Learning curves: loss and validation accuracy of every attention over the epochs."""

from pathlib import Path
from typing import Any

import pandas as pd

from ..pictures import in_style, new_figure, not_measured, styles_of
from .summary import of_attention

CURVES = "learning_curves.png"
# What Trainer logs, what it is called here, and what it is multiplied with.
_PANELS = {
    "loss": ("training loss", "cross-entropy", 1),
    "eval_loss": ("validation loss", "cross-entropy", 1),
    "eval_accuracy": ("validation accuracy", "accuracy, %", 100),
}


@in_style
def plot_learning_curves(runs: list[dict[str, Any]], names: tuple[str, ...], path: Path, title: str = "") -> None:
    """Draws the mean over seeds of each run's `history`, and the range of all seeds around it; needs no display."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    histories = {
        name: pd.DataFrame([entry for run in of_attention(runs, name) for entry in run["history"]]) for name in names
    }
    seeds = len({run["seed"] for run in runs})
    figure, panels = new_figure(12, 3.8, 1, len(_PANELS))
    styles = styles_of(names)
    for axes, (key, (heading, unit, factor)) in zip(panels[0], _PANELS.items(), strict=True):
        for name, history in histories.items():
            if key in history:
                curve = factor * history.dropna(subset=key).groupby("epoch")[key].agg(["mean", "min", "max"])
                # A line of one point is seen by its marker alone.
                axes.plot(curve.index, curve["mean"], markevery=len(curve) // 12 + 1, markersize=4, **styles[name])
                band = {"alpha": 0.12, "linewidth": 0, "color": styles[name]["color"]}
                axes.fill_between(curve.index, curve["min"], curve["max"], **band)
        if not axes.lines:
            not_measured(axes)
        else:
            axes.set_xlim(left=0)
            axes.ticklabel_format(axis="y", useOffset=False)
        axes.set(xlabel="epoch", ylabel=unit)
        axes.set_title(heading)
        axes.grid(alpha=0.3)
    handles = [Line2D([], [], **styles[name], markersize=4, label=name) for name in names]
    if seeds > 1:
        handles.append(Patch(color="grey", alpha=0.3, label=f"line: mean of {seeds} seeds\nband: lowest to highest"))
    figure.legend(handles=handles, loc="outside right center")
    figure.suptitle(", ".join([*[title] * bool(title), f"{seeds} seed{'s' * (seeds != 1)}"]))
    figure.savefig(path, dpi=120)
