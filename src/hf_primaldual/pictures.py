"""What all pictures share: figures without a display, fonts, a colour and a marker for each attention, and axes."""

import functools
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from .modeling.presets_primal_dual import PRESETS

# Of softmax, the first of the presets, and of those after it.
_MARKERS = "so^Dv<>P*Xph"
# Of the presets in order: the colours of Okabe and Ito, which the colour-blind tell apart, then Paul Tol's muted ones.
_COLORS = [
    *("black", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#882255", "#D55E00"),
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#CC6677", "#AA4499", "#DDCC77", "#F0E442"),
]
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.titlesize": 10,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "hf_primaldual",
}


def in_style(plot: Callable) -> Callable:
    """A function that draws, with the fonts and axes of all pictures."""

    @functools.wraps(plot)
    def drawn(*args: Any, **kwargs: Any):
        try:
            from matplotlib import rc_context
        except ImportError as error:
            raise ImportError("plots need matplotlib: pip install matplotlib") from error
        with rc_context(_STYLE):
            return plot(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, rows: int, columns: int, **options: Any):
    """A figure without a display and its panels, an array `(rows, columns)`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def write_pictures(figure, folder: str | PathLike, name: str) -> None:
    """Writes a figure as PNG and as SVG into a folder, which is made if there is none."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        file = Path(folder) / f"{name}.{ending}"
        figure.savefig(file, dpi=150)
        print(f"written: {file}")


def styles_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """
    A colour and a marker for each name, no colour twice among some forty. A preset has the same in every picture,
    softmax black; other names take what is left.
    """
    from matplotlib import colormaps

    colors = [*_COLORS, *colormaps["tab20"].colors, *colormaps["Dark2"].colors]
    names, styles = list(names), dict(zip(PRESETS, colors, strict=False))
    free = (color for color in colors if color not in [styles.get(name) for name in names])
    styles |= {name: next(free) for name in names if name not in styles}
    markers = {name: _MARKERS[index % len(_MARKERS)] for index, name in enumerate(PRESETS)}
    return {
        name: {"color": styles[name], "marker": markers.get(name, _MARKERS[index % len(_MARKERS)])}
        for index, name in enumerate(names)
    }


def readable_log(axis) -> None:
    """A logarithmic axis whose ticks are numbers, such as 20 or 500 M, at least a few of them."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(EngFormatter(sep=" "))
    axis.set_minor_formatter(NullFormatter())


def not_measured(panel, x: float | None = None, what: str = "") -> None:
    """Says so where a picture has nothing: in the middle of a panel, or standing at the place `x` of its axis."""
    text = {"s": f"not measured{what}", "color": "dimgrey", "ha": "center"}
    if x is None:
        panel.text(0.5, 0.5, transform=panel.transAxes, va="center", **text)
        panel.set(xticks=[], yticks=[])
    else:
        panel.text(x, 0.03, transform=panel.get_xaxis_transform(), rotation=90, va="bottom", fontsize=7, **text)
