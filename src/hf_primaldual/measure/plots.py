"""Pictures of costs and of heads. They draw without a display and are no part of pyplot."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .redundancy import LayerRedundancy


def new_figure(width: float, height: float, rows: int, columns: int, **options: Any):
    """
    A figure without a display and its panels, an array `(rows, columns)`.

    Raises:
        ImportError: when matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def write_pictures(figure, folder: str | PathLike, name: str) -> list[Path]:
    """Writes a figure as PNG and as SVG into a folder, which is made if there is none; returns the files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = [Path(folder) / f"{name}.{ending}" for ending in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
        print(f"written: {file}")
    return files


def plot_redundancy(
    layers_of: Mapping[str, Sequence[LayerRedundancy]], measure: str = "output_distance", title: str = ""
):
    """
    A heat map of pairs of heads for each layer, a row for each attention, all on one scale.

    Args:
        layers_of: What `head_redundancy` returned, by attention.
        measure: A field of `LayerRedundancy`.
        title: Of the picture.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: For another measure.
    """
    if measure not in LayerRedundancy._fields:
        raise ValueError(f"`measure` must be one of {', '.join(LayerRedundancy._fields)}, got {measure!r}.")
    matrices = {name: [getattr(layer, measure) for layer in layers] for name, layers in layers_of.items()}
    columns = max(len(layers) for layers in matrices.values())
    figure, panels = new_figure(1.5 + 2.2 * columns, 0.6 + 2.2 * len(matrices), len(matrices), columns)
    largest = max(float(matrix.max()) for layers in matrices.values() for matrix in layers)
    smallest = min(0.0, *(float(matrix.min()) for layers in matrices.values() for matrix in layers))
    for (name, layers), row in zip(matrices.items(), panels, strict=True):
        for index, (matrix, panel) in enumerate(zip(layers, row, strict=False)):
            image = panel.imshow(matrix.numpy(), vmin=smallest, vmax=largest, cmap="viridis")
            panel.set_title(f"{name}, layer {index}", fontsize=9)
            panel.set_xticks(range(len(matrix)))
            panel.set_yticks(range(len(matrix)))
            panel.tick_params(labelsize=6)
    figure.colorbar(image, ax=panels, label=measure.replace("_", " "), shrink=0.8)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_pareto(results: dict[str, Any], point: int = -1):
    """
    Accuracy of every attention against FLOPs, inference time and training time, from a training script's results
    (`hub.results`).

    Args:
        results: A validated results file.
        point: Which entry of `efficiency` the costs are taken from.

    Returns:
        The `matplotlib.figure.Figure`. Bars are deviations over seeds, the line joins what nothing beats in both.
    """
    from matplotlib.ticker import LogLocator

    cost, names = results["efficiency"][point], (results["baseline"], *results["attentions"])
    axes = {
        "FLOPs of a forward": {name: cost[name]["forward_flops"] for name in names},
        "inference, ms": {name: cost[name]["inference_ms"]["median"] for name in names},
        "training step, ms": {name: cost[name]["train_step_ms"]["median"] for name in names},
    }
    summary = {name: results["summary"][name] for name in names}
    accuracy = {name: 100 * each["test_accuracy_mean"] for name, each in summary.items()}
    picture, panels = new_figure(11, 4, 1, 3, sharey=True)
    for panel, (label, values) in zip(panels[0], axes.items(), strict=True):
        for index, name in enumerate(names):
            deviation = 100 * (summary[name]["test_accuracy_std"] or 0)
            # Ten colours, and after them another marker; the baseline is black.
            style = {"color": f"C{(index - 1) % 10}", "marker": "o^D"[(index - 1) // 10 % 3]}
            style = {"color": "black", "marker": "s"} if name == results["baseline"] else style
            panel.errorbar(values[name], accuracy[name], deviation, label=name, capsize=3, linestyle="none", **style)
        front = pareto_front({name: (values[name], accuracy[name]) for name in names})
        panel.plot([values[n] for n in front], [accuracy[n] for n in front], color="grey", linewidth=0.8, zorder=0)
        panel.set_xlabel(label)
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    panels[0][0].set_ylabel("test accuracy, %")
    picture.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    seeds = summary[names[0]]["seeds"]
    picture.suptitle(
        f"{results['dataset']['name']}, {seeds} seeds; costs at {cost['batch']} x {cost['tokens']} tokens", fontsize=10
    )
    return picture


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """The names of `(cost, gain)` that no other has at most the cost and at least the gain of, by cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


__all__ = ["new_figure", "pareto_front", "plot_pareto", "plot_redundancy", "write_pictures"]
