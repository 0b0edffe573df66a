"""Pictures of costs and of heads. They draw without a display and are no part of pyplot; all return the figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..pictures import in_style, new_figure, readable_log, styles_of
from .attention_maps import LayerMaps, seen_from
from .redundancy import LayerRedundancy

# As many channels have a legend, and as many tokens are written below their places.
_CHANNELS_NAMED, _TOKENS_NAMED = 10, 80


@in_style
def plot_redundancy(layers_of: Mapping[str, Sequence[LayerRedundancy]], title: str = ""):
    """A heat map of the heads' output distances for each layer, a row for each attention, all on one scale."""
    matrices = {name: [layer.output_distance for layer in layers] for name, layers in layers_of.items()}
    columns = max(len(layers) for layers in matrices.values())
    figure, panels = new_figure(1.5 + 2.2 * columns, 0.6 + 2.2 * len(matrices), len(matrices), columns)
    largest = max(float(matrix.max()) for layers in matrices.values() for matrix in layers)
    for (name, layers), row in zip(matrices.items(), panels, strict=True):
        for index, (matrix, panel) in enumerate(zip(layers, row, strict=False)):
            image = panel.imshow(matrix.numpy(), vmin=0, vmax=largest, cmap="viridis")
            panel.set_title(f"{name}, layer {index}")
            panel.set_xticks(range(len(matrix)))
            panel.set_yticks(range(len(matrix)))
            panel.tick_params(labelsize=6)
        for panel in row[len(layers) :]:
            panel.set_axis_off()
        row[0].set_ylabel("head")
    for panel in panels[-1]:
        panel.set_xlabel("head")
    figure.colorbar(image, ax=panels, label="distance of two heads' outputs; 0: they say the same", shrink=0.8)
    figure.suptitle(title)
    return figure


@in_style
def plot_sequence_attention(
    layers: list[LayerMaps],
    series: torch.Tensor | None = None,
    tokens: Sequence[str] | None = None,
    query: int | None = None,
    title: str = "",
):
    """
    A strip for each head and a panel for each layer: what the heads see from the token `query`, or on average over
    all. A pooled head's window is one flat piece. Above them a `series` (time, channels), or below the `tokens`.
    """
    heads, length = layers[0].weights.shape[:2]
    strip, drawn = 0.6 + 0.18 * heads, series is not None
    heights = [*[1.6] * drawn, *[strip] * len(layers)]
    figure, panels = new_figure(
        8, 0.9 + 1.6 * drawn + len(layers) * strip, len(heights), 1, sharex=True, height_ratios=heights
    )
    panels = panels[:, 0]
    if drawn:
        lines = panels[0].plot(series.numpy(), linewidth=0.8)
        panels[0].set_ylabel(f"value, {len(lines)} channel{'s' * (len(lines) != 1)}")
        if 1 < len(lines) <= _CHANNELS_NAMED:
            names = [f"channel {channel}" for channel in range(len(lines))]
            panels[0].legend(lines, names, fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    weights = [seen_from(layer, query).numpy() for layer in layers]
    scale = {"vmin": 0, "vmax": max(each.max() for each in weights)}
    for index, (layer, panel) in enumerate(zip(layers, panels[drawn:], strict=True)):
        image = panel.imshow(weights[index], aspect="auto", cmap="Blues", interpolation="nearest", **scale)
        labels = [f"head {head}, {keys} keys" for head, keys in enumerate(layer.keys)]
        panel.set_yticks(range(heads), labels, fontsize=6)
        panel.set_title(f"layer {index}", loc="left")
    figure.colorbar(image, ax=list(panels[drawn:]), label="attention weight")
    if query is not None:
        for panel in panels:
            panel.axvline(query, color="black", linestyle=":")
    if tokens is not None and length <= _TOKENS_NAMED:
        named = [
            *[""] * (length - len(tokens)),
            *(each if each.isprintable() else ascii(each)[1:-1] for each in tokens),
        ]
        panels[-1].set_xticks(range(length), named, rotation=90, fontsize=6)
        for label in panels[-1].get_xticklabels():
            # A dollar is no formula.
            label.set_parse_math(False)
    panels[-1].set_xlabel("step" if drawn else "token")
    seen = "mean over all queries" if query is None else f"seen from {query}, the dotted line"
    figure.suptitle(f"{title}; {seen}", parse_math=False)
    return figure


@in_style
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
    figure, panels = new_figure(1.6 + 1.6 * heads, 0.6 + 1.8 * len(layers), len(layers), heads)
    grey, extent = image.mean(dim=0).numpy(), (0, width, height, 0)
    for index, (layer, row) in enumerate(zip(layers, panels, strict=True)):
        patches = seen_from(layer, query)[:, prefix:].unflatten(1, tuple(grid_size))
        # One scale for the heads of a layer.
        largest = float(patches.max())
        for head, (weights, panel) in enumerate(zip(patches, row, strict=True)):
            panel.imshow(grey, cmap="gray", extent=extent)
            shown = panel.imshow(
                weights.numpy(),
                cmap="inferno",
                alpha=0.6,
                interpolation="nearest",
                extent=extent,
                vmin=0,
                vmax=largest,
            )
            panel.set_title(f"layer {index}, head {head}: {layer.keys[head]} keys", fontsize=6)
            panel.set_axis_off()
            if query is not None and query >= prefix:
                place = divmod(query - prefix, grid_size[1])
                y, x = ((axis + 0.5) * side / count for axis, side, count in zip(place, (height, width), grid_size))
                panel.plot(x, y, "x", color="cyan")
        figure.colorbar(shown, ax=list(row), label="attention weight")
    seen = "mean over all queries"
    if query is not None:
        seen = (
            f"seen from token {query}, the cross"
            if query >= prefix
            else f"seen from token {query}, before the patches"
        )
    figure.suptitle(f"{title}; {seen}")
    return figure


@in_style
def plot_pareto(results: dict[str, Any]):
    """
    Test accuracy of every attention against FLOPs, inference time and training time at the last size of `efficiency`,
    from a training script's results. Bars are deviations over seeds, the line joins what nothing beats in both.
    """
    from matplotlib.lines import Line2D

    if not results["efficiency"]:
        raise ValueError("`results` must hold what the attentions cost, and their `efficiency` is empty.")
    cost, names = results["efficiency"][-1], [name for name in results["summary"] if name in results["efficiency"][-1]]
    axes = {
        "FLOPs of a forward": {name: cost[name]["forward_flops"] for name in names},
        "inference, ms": {name: cost[name]["inference_ms"]["median"] for name in names},
        "training step, ms": {name: cost[name]["train_step_ms"]["median"] for name in names},
    }
    summary, styles = {name: results["summary"][name] for name in names}, styles_of(names)
    accuracy = {name: 100 * each["test_accuracy_mean"] for name, each in summary.items()}
    picture, panels = new_figure(12, 4.4, 1, 3, sharey=True)
    fronts = []
    for panel, (label, values) in zip(panels[0], axes.items(), strict=True):
        for name in names:
            deviation = 100 * (summary[name]["test_accuracy_std"] or 0)
            # Nothing is beyond 0 and 100 %.
            bar = [[min(deviation, accuracy[name])], [min(deviation, 100 - accuracy[name])]]
            panel.errorbar(values[name], accuracy[name], bar, capsize=3, linestyle="none", **styles[name])
        front = pareto_front({name: (values[name], accuracy[name]) for name in names})
        fronts.append(front)
        panel.plot([values[n] for n in front], [accuracy[n] for n in front], color="grey", linewidth=0.8, zorder=0)
        panel.set_xlabel(label)
        panel.set_xscale("log")
        readable_log(panel.xaxis)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy, %")
    seeds = max(each["seeds"] for each in summary.values())
    handles = [Line2D([], [], linestyle="none", label=name, **styles[name]) for name in names]
    if max(map(len, fronts)) > 1:
        handles.append(Line2D([], [], color="grey", linewidth=0.8, label="best for its cost"))
    if seeds > 1:
        handles.append(Line2D([], [], color="grey", marker="|", linestyle="none", label="± deviation over seeds"))
    picture.legend(handles=handles, loc="outside right center")
    runs = f"{seeds} seed{'s' * (seeds != 1)}"
    title = f"{results['dataset']['name']}, {runs}; costs at batch {cost['batch']} of {cost['tokens']} tokens"
    if hardware := results.get("hardware"):
        title += f", on {hardware['accelerator'] or hardware['processor']}"
    picture.suptitle(title)
    return picture


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """The names of `(cost, gain)` that no other has at most the cost and at least the gain of, by cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


@in_style
def plot_times(times_of: Mapping[str, Mapping[int, float]], about: str, dark: bool = False):
    """Milliseconds by the number of tokens, a line with its name at its end for each of some attentions."""
    ink, styles = "#e6edf3" if dark else "#1f2328", styles_of(times_of)
    figure, ((panel,),) = new_figure(7, 3.6, 1, 1)
    for name, times in times_of.items():
        color = ink if styles[name]["color"] == "black" else styles[name]["color"]
        panel.plot(list(times), list(times.values()), **styles[name] | {"color": color}, linewidth=2)
        last = max(times)
        panel.annotate(name, (last, times[last]), (8, 0), textcoords="offset points", color=color, va="center")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    readable_log(panel.yaxis)
    lengths = sorted({tokens for times in times_of.values() for tokens in times})
    panel.set_xticks(lengths, [f"{tokens:,}" for tokens in lengths])
    panel.set_xlim(lengths[0] / 1.2, lengths[-1] * 2.6)
    panel.set_xlabel("tokens", color=ink)
    panel.set_ylabel("ms for a training step", color=ink)
    panel.set_title(about, color=ink)
    panel.tick_params(colors=ink)
    for side in panel.spines.values():
        side.set_color(ink)
    panel.spines[["top", "right"]].set_visible(False)
    # What lies behind it is the page's.
    figure.patch.set_alpha(0)
    panel.patch.set_alpha(0)
    return figure
