"""Pictures of costs and of heads. They draw without a display and are no part of pyplot; all return the figure."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .attention_maps import LayerMaps, seen_from
from .redundancy import LayerRedundancy


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


def plot_redundancy(layers_of: Mapping[str, Sequence[LayerRedundancy]], title: str = ""):
    """A heat map of the heads' output distances for each layer, a row for each attention, all on one scale."""
    matrices = {name: [layer.output_distance for layer in layers] for name, layers in layers_of.items()}
    columns = max(len(layers) for layers in matrices.values())
    figure, panels = new_figure(1.5 + 2.2 * columns, 0.6 + 2.2 * len(matrices), len(matrices), columns)
    largest = max(float(matrix.max()) for layers in matrices.values() for matrix in layers)
    for (name, layers), row in zip(matrices.items(), panels, strict=True):
        for index, (matrix, panel) in enumerate(zip(layers, row, strict=False)):
            image = panel.imshow(matrix.numpy(), vmin=0, vmax=largest, cmap="viridis")
            panel.set_title(f"{name}, layer {index}", fontsize=9)
            panel.set_xticks(range(len(matrix)))
            panel.set_yticks(range(len(matrix)))
            panel.tick_params(labelsize=6)
    figure.colorbar(image, ax=panels, label="output distance", shrink=0.8)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_series_attention(layers: list[LayerMaps], series: torch.Tensor, query: int | None = None, title: str = ""):
    """
    A series `(time, channels)` with a strip for each head below it, a panel for each layer: what the heads see from
    the step `query`, or on average over all. A pooled head's window is one flat piece.
    """
    heads = len(layers[0].keys)
    strip = 0.6 + 0.18 * heads
    figure, panels = new_figure(
        8, 2.5 + len(layers) * strip, 1 + len(layers), 1, sharex=True, height_ratios=[1.6, *[strip] * len(layers)]
    )
    panels = panels[:, 0]
    panels[0].plot(series.numpy(), linewidth=0.8)
    panels[0].set_title(title, fontsize=10)
    if query is not None:
        panels[0].axvline(query, color="black", linestyle=":")
    for index, (layer, panel) in enumerate(zip(layers, panels[1:], strict=True)):
        weights = seen_from(layer, query).numpy()
        image = panel.imshow(weights, aspect="auto", cmap="Blues", interpolation="nearest", vmin=0)
        labels = [f"head {head}, {keys} keys" for head, keys in enumerate(layer.keys)]
        panel.set_yticks(range(heads), labels, fontsize=6)
        panel.set_title(f"layer {index}", loc="left", fontsize=9)
        figure.colorbar(image, ax=panel, label="weight of a step")
    panels[-1].set_xlabel("step")
    return figure


def plot_image_attention(
    layers: list[LayerMaps],
    image: torch.Tensor,
    grid_size: tuple[int, int],
    prefix: int,
    query: int | None = None,
    title: str = "",
):
    """
    An image `(channels, height, width)` under the weights of its patches, a row for each layer and a column for each
    head: what they see from the token `query`, or on average over all; `prefix` tokens (CLS) are in front.
    """
    heads, (height, width) = len(layers[0].keys), image.shape[1:]
    figure, panels = new_figure(0.8 + 1.6 * heads, 0.6 + 1.8 * len(layers), len(layers), heads)
    grey = image.mean(dim=0).numpy()
    for index, (layer, row) in enumerate(zip(layers, panels, strict=True)):
        patches = seen_from(layer, query)[:, prefix:].unflatten(1, tuple(grid_size))
        for head, (weights, panel) in enumerate(zip(patches, row, strict=True)):
            extent = (0, width, height, 0)
            panel.imshow(grey, cmap="gray", extent=extent)
            panel.imshow(weights.numpy(), cmap="inferno", alpha=0.6, interpolation="nearest", extent=extent, vmin=0)
            panel.set_title(f"layer {index}, head {head}: {layer.keys[head]} keys", fontsize=6)
            panel.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure


def plot_pareto(results: dict[str, Any]):
    """
    Test accuracy of every attention against FLOPs, inference time and training time at the last size of `efficiency`,
    from a training script's results. Bars are deviations over seeds, the line joins what nothing beats in both.
    """
    from matplotlib.ticker import LogLocator

    cost, names = results["efficiency"][-1], (results["baseline"], *results["attentions"])
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
