"""Where the heads of a trained model look: at which patches of an image, at which steps of a series."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from ..theory.layers import attention_layers, evaluating
from .plots import new_figure
from .redundancy import maps_over_tokens


class LayerMaps(NamedTuple):
    """
    One layer's maps of one example. `weights` has shape `(heads, tokens, tokens)`, over the original tokens; `keys`
    holds how many keys each head really saw.
    """

    weights: torch.Tensor
    keys: tuple[int, ...]


def attention_maps(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[LayerMaps]:
    """
    Runs a model on one example and returns the maps of its layers, those of pooled heads brought to the tokens by
    `maps_over_tokens`.

    Args:
        model: with layers of `PrimalDualAttention`; it runs in evaluation mode.
        inputs: its keyword arguments, a batch of one.

    Raises:
        ValueError: the model has no such layer, or the batch is not of one example.
    """
    if (batch := next(iter(inputs.values())).shape[0]) != 1:
        raise ValueError(f"`inputs` must hold one example, got {batch}.")
    found: list[LayerMaps] = []

    def note(layer, args, kwargs, returned):
        mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
        maps = returned[1] if isinstance(returned[1], tuple) else returned[1].unbind(dim=1)
        weights = maps_over_tokens(layer, maps, mask, kwargs.get("grid_size"))[0]
        found.append(LayerMaps(weights, tuple(head.shape[-1] for head in maps)))

    layers = attention_layers(model)
    with evaluating(model) as hooks:
        hooks += [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
        model(**inputs, output_attentions=True)
    return found


def seen_from(layer: LayerMaps, query: int | None) -> torch.Tensor:
    """What each head sees from one token, or on average over all, `(heads, tokens)`.

    Raises:
        ValueError: when there is no such token.
    """
    tokens = layer.weights.shape[1]
    if query is None:
        return layer.weights.mean(dim=1)
    if not 0 <= query < tokens:
        raise ValueError(f"`query` must be a token, 0 to {tokens - 1}, got {query}.")
    return layer.weights[:, query]


def plot_series_attention(layers: list[LayerMaps], series: torch.Tensor, query: int | None = None, title: str = ""):
    """
    A series with a strip for each head below it, a panel for each layer. A pooled head's window is one flat piece.

    Args:
        layers: from `attention_maps`.
        series: `(time, channels)`.
        query: the step that looks; by default the average over all.
        title: of the picture.

    Returns:
        The `matplotlib.figure.Figure`.
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
        image = panel.imshow(
            seen_from(layer, query).numpy(), aspect="auto", cmap="Blues", interpolation="nearest", vmin=0
        )
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
    An image under the weights of its patches, a row for each layer and a column for each head.

    Args:
        layers: from `attention_maps`.
        image: `(channels, height, width)`, of any range of values.
        grid_size: height and width in patches.
        prefix: tokens in front of the patches (CLS).
        query: the token that looks; by default the average over all.
        title: of the picture.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    heads, (height, width) = len(layers[0].keys), image.shape[1:]
    figure, panels = new_figure(0.8 + 1.6 * heads, 0.6 + 1.8 * len(layers), len(layers), heads)
    shown = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-12)
    shown = shown.mean(dim=0).numpy()
    for index, (layer, row) in enumerate(zip(layers, panels, strict=True)):
        patches = seen_from(layer, query)[:, prefix:].unflatten(1, tuple(grid_size))
        for head, (weights, panel) in enumerate(zip(patches, row, strict=True)):
            extent = (0, width, height, 0)
            panel.imshow(shown, cmap="gray", extent=extent)
            panel.imshow(weights.numpy(), cmap="inferno", alpha=0.6, interpolation="nearest", extent=extent, vmin=0)
            panel.set_title(f"layer {index}, head {head}: {layer.keys[head]} keys", fontsize=6)
            panel.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure


__all__ = ["LayerMaps", "attention_maps", "plot_image_attention", "plot_series_attention", "seen_from"]
