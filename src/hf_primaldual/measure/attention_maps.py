"""Where the heads of a model look, over its original tokens: patches of an image, steps of a series."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ..theory.layers import attention_layers, evaluating, mask_of


class LayerMaps(NamedTuple):
    """One layer's maps of one example, `(heads, tokens, tokens)`, and how many keys each head really saw."""

    weights: torch.Tensor
    keys: tuple[int, ...]


def attention_maps(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[LayerMaps]:
    """
    Runs a model in evaluation mode on one example and returns the maps of its layers.

    Args:
        model: with layers of `PrimalDualAttention`.
        inputs: its keyword arguments, a batch of one.
    """
    if (batch := next(iter(inputs.values())).shape[0]) != 1:
        raise ValueError(f"`inputs` must hold one example, got {batch}.")
    found: list[LayerMaps] = []

    def note(layer: nn.Module, args: tuple, kwargs: dict[str, Any], returned: tuple) -> None:
        weights = maps_over_tokens(layer, returned[1], mask_of(args, kwargs), kwargs.get("grid_size"))[0]
        maps = returned[1] if isinstance(returned[1], tuple) else returned[1].unbind(dim=1)
        found.append(LayerMaps(weights, tuple(head.shape[-1] for head in maps)))

    with evaluating(model) as hooks:
        hooks += [layer.register_forward_hook(note, with_kwargs=True) for layer in attention_layers(model)]
        model(**inputs, output_attentions=True)
    return found


def seen_from(layer: LayerMaps, query: int | None) -> torch.Tensor:
    """What each head sees from one token, or on average over all, `(heads, tokens)`."""
    tokens = layer.weights.shape[1]
    if query is None:
        return layer.weights.mean(dim=1)
    if not 0 <= query < tokens:
        raise ValueError(f"`query` must be a token, 0 to {tokens - 1}, got {query}.")
    return layer.weights[:, query]


def maps_over_tokens(
    attention: nn.Module,
    maps: torch.Tensor | tuple[torch.Tensor, ...],
    mask: torch.Tensor | None = None,
    grid_size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """
    A layer's maps brought to one length: the weight of a pooled key is spread evenly over the valid tokens of its
    window, or given to the one token that its sampling chose, so that every row is over all tokens and sums to 1.

    Args:
        attention: the layer of `PrimalDualAttention`.
        maps: what it returned with `output_attentions=True`.
        mask: real tokens, `(batch, tokens)`.
        grid_size: the grid of patches, where it is not the configuration's.

    Returns:
        `torch.Tensor` of shape `(batch, heads, tokens, tokens)`.

    Raises:
        ValueError: points are made by a learned convolution, which mixes a window with weights of any sign.
    """
    if isinstance(maps, torch.Tensor):
        maps = maps.unbind(dim=1)
    if "downsampled" not in attention.config.choices.training_set:
        return torch.stack(tuple(maps), dim=1)
    if attention.config.sampling == "conv":
        raise ValueError("`sampling='conv'` learns how a window is mixed: its keys' weights are of no single tokens.")
    batch, tokens, _ = maps[0].shape
    mask = None if mask is None or bool(mask.all()) else mask.bool()
    # Points are averages of tokens: of unit vectors for tokens they are the shares that each token has in them.
    unit = torch.eye(tokens, dtype=maps[0].dtype, device=maps[0].device).expand(batch, -1, -1)
    spread: dict[int, torch.Tensor] = {}
    for group in attention.training_set(unit, mask, grid_size):
        points, _ = group.pool(unit)
        spread |= {head: maps[head] @ points for head in group.heads}
    return torch.stack([spread[head] for head in range(attention.num_heads)], dim=1)
