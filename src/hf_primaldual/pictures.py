"""What all pictures share: figures without a display, a colour and a marker for each attention, readable axes."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from .modeling.presets_primal_dual import PRESETS

# Of softmax, the first of the presets, and of those after it.
_MARKERS = "so^Dv<>P*Xph"


def new_figure(width: float, height: float, rows: int, columns: int, **options: Any):
    """A figure without a display and its panels, an array `(rows, columns)`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install matplotlib") from error
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

    dark, light = colormaps["tab20"].colors[::2], colormaps["tab20"].colors[1::2]
    # Neighbours in the table of presets, such as bn and bn+sh, are of different hues.
    colors = [*dark, *light, *colormaps["Dark2"].colors, *colormaps["Set2"].colors, *colormaps["Set3"].colors]
    names, styles = list(names), dict(zip(PRESETS, ["black", *colors], strict=False))
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
