"""How much the heads of a layer differ from each other: the paper's pairwise L2 distance, cosine and linear CKA."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ..theory.layers import attention_layers, evaluating, mask_of
from .attention_maps import maps_over_tokens


class LayerRedundancy(NamedTuple):
    """
    Matrices `(heads, heads)` over pairs of heads of one layer, in float64; larger distances are less redundant,
    larger cosines and CKA more.

    - `output_distance`: L2 distance of the two heads' outputs, before the output projection, mean over real tokens;
    - `map_distance`: L2 distance of their rows of attention weights over all tokens (`maps_over_tokens`), likewise;
    - `output_cosine`: cosine of their outputs, likewise; an output of zero has cosine 0;
    - `output_cka`: linear CKA of their outputs (Kornblith et al., 2019), all real tokens as samples.
    """

    output_distance: torch.Tensor
    map_distance: torch.Tensor
    output_cosine: torch.Tensor
    output_cka: torch.Tensor

    def means(self) -> dict[str, float]:
        """The mean of each over the pairs of different heads."""
        rows, columns = self.output_distance.shape
        first, second = torch.triu_indices(rows, columns, offset=1)
        return {name: matrix[first, second].mean().item() for name, matrix in self._asdict().items()}


def head_redundancy(model: nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]) -> list[LayerRedundancy]:
    """
    Compares the heads of every layer of a model on real inputs: one `LayerRedundancy` for each layer.

    Args:
        model: with layers of `PrimalDualAttention`; it runs in evaluation mode and is left as it was.
        batches: its keyword arguments, batch by batch.

    Raises:
        ValueError: the model has no such layer, a single head, or heads whose sampling is a learned convolution, or
            there is no batch.
    """
    layers = attention_layers(model)
    if layers[0].num_heads < 2:
        raise ValueError(f"`model` must have layers with at least two heads, got {layers[0].num_heads}.")
    sums = [_Sums(layer.num_heads, layer.head_dim) for layer in layers]
    with evaluating(model) as hooks:
        for layer, total in zip(layers, sums, strict=True):
            hooks.append(layer.o_proj.register_forward_pre_hook(total.note_outputs))
            hooks.append(layer.register_forward_hook(total.add, with_kwargs=True))
        for batch in batches:
            model(**{key: value for key, value in batch.items() if key != "labels"}, output_attentions=True)
    if not sums[0].tokens:
        raise ValueError("`batches` must hold at least one batch, got none.")
    return [total.result() for total in sums]


def mean_redundancy(layers: list[LayerRedundancy]) -> dict[str, float]:
    """The paper's figure and its companions: means over pairs of heads, and of those over the layers."""
    means = [layer.means() for layer in layers]
    return {name: sum(each[name] for each in means) / len(means) for name in means[0]}


class _Sums:
    """What one layer's batches add up to."""

    def __init__(self, heads: int, head_dim: int):
        self.heads, self.head_dim, self.tokens = heads, head_dim, 0
        self.output_distance, self.map_distance, self.cosine = torch.zeros(3, heads, heads, dtype=torch.float64)
        self.mean = torch.zeros(heads * head_dim, dtype=torch.float64)
        self.moment = torch.zeros(heads * head_dim, heads * head_dim, dtype=torch.float64)

    def note_outputs(self, projection: nn.Module, args: tuple) -> None:
        self.outputs = args[0]

    def add(self, layer: nn.Module, args: tuple, kwargs: dict[str, Any], returned: tuple) -> None:
        mask = mask_of(args, kwargs)
        outputs = self.outputs.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        maps = maps_over_tokens(layer, returned[1], mask, kwargs.get("grid_size"))
        kept = (outputs.new_ones(outputs.shape[0], outputs.shape[2]) if mask is None else mask).bool()
        self.tokens += int(kept.sum())
        # Real tokens of all rows side by side, `(heads, tokens, ...)`; a row at a time, for the maps are long.
        for output, weights, real in zip(outputs, maps, kept, strict=True):
            output, weights = (states[:, real].to("cpu", torch.float64) for states in (output, weights))
            # Head by head, to bound memory.
            for head in range(self.heads):
                self.output_distance[head] += (output - output[head]).norm(dim=-1).sum(dim=-1)
                self.map_distance[head] += (weights - weights[head]).norm(dim=-1).sum(dim=-1)
            unit = nn.functional.normalize(output, dim=-1)
            self.cosine += torch.einsum("ind,jnd->ij", unit, unit)
            flat = output.transpose(0, 1).flatten(1)
            self.mean += flat.sum(dim=0)
            self.moment += flat.T @ flat
        del self.outputs

    def result(self) -> LayerRedundancy:
        covariance = self.moment - torch.outer(self.mean, self.mean) / self.tokens
        blocks = covariance.unflatten(0, (self.heads, -1)).unflatten(2, (self.heads, -1))
        alignment = blocks.square().sum(dim=(1, 3))
        own = alignment.diagonal().sqrt()
        cka = alignment / torch.outer(own, own).clamp(min=torch.finfo(torch.float64).tiny)
        return LayerRedundancy(
            self.output_distance / self.tokens, self.map_distance / self.tokens, self.cosine / self.tokens, cka
        )
