"""Token Merging (ToMe; Bolya et al., 2023) of the published description, inside the layers of this package."""

import torch
from torch import nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from .attentions import join_heads, refuse_mask, split_heads


def match(metric: torch.Tensor, count: int, prefix: int = 1) -> torch.Tensor:
    """
    Which tokens go into which: every second token (A) proposes the most similar one of the others (B), by the cosine
    of `metric` `(batch, tokens, channels)`, and the `count` most similar pairs merge. The `prefix` tokens, which come
    first, take no part.

    Returns:
        The place of each token among the `tokens - count` merged ones, `(batch, tokens)`: first the prefix, then what
        stays of A, then B.
    """
    batch, tokens, _ = metric.shape
    most = (tokens - prefix) // 2
    if not 0 <= count <= most:
        raise ValueError(f"`count` must lie in 0 to {most}, half of the tokens behind the prefix, got {count}.")
    # Choosing has no gradient.
    with torch.no_grad():
        metric = normalize(metric[:, prefix:].float(), dim=-1)
        best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(dim=-1)
        order = best.argsort(dim=-1, descending=True)
        going, staying = order[:, :count], order[:, count:].sort(dim=-1).values
        first_of_b = prefix + staying.shape[1]
        numbers = torch.arange(tokens, device=metric.device).expand(batch, -1)
        of_a = torch.empty_like(partner)
        of_a.scatter_(1, staying, numbers[:, prefix:first_of_b])
        of_a.scatter_(1, going, first_of_b + partner.gather(1, going))
        place = numbers.clone()
        place[:, prefix::2] = of_a
        place[:, prefix + 1 :: 2] = numbers[:, first_of_b : tokens - count]
    return place


def merge(
    hidden_states: torch.Tensor, size: torch.Tensor, place: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages weighted by `size` `(batch, tokens)`, `(batch, tokens - count, width)`, and their sizes."""
    batch, tokens, width = hidden_states.shape
    total = size.new_zeros(batch, tokens - count).scatter_add(1, place, size)
    weighted = hidden_states * size.unsqueeze(-1).to(hidden_states.dtype)
    summed = weighted.new_zeros(batch, tokens - count, width)
    summed = summed.scatter_add(1, place.unsqueeze(-1).expand(-1, -1, width), weighted)
    return summed / total.unsqueeze(-1).to(summed.dtype), total


class MergingLayers(nn.Module):
    """
    Softmax layers of this package, with norms before the sublayers, as one module that merges `count` tokens behind
    `prefix` between each attention and its feed-forward block. In the end each token gets its merged one's state, so
    that an average is weighted by size.
    """

    def __init__(self, layers: nn.ModuleList, count: int, prefix: int):
        super().__init__()
        if not all(layer.pre_norm for layer in layers):
            raise ValueError("ToMe's layer needs norms before the sublayers, `norm_position='pre'`, got 'post'.")
        self.layers, self.count, self.prefix = layers, count, prefix

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        refuse_mask("ToMe", attention_mask)
        batch, tokens, width = hidden_states.shape
        place, size = torch.arange(tokens, device=hidden_states.device).expand(batch, -1), None
        for layer in self.layers:
            attended, metric = attend(layer.self_attn, layer.norm1(hidden_states), size)
            hidden_states = hidden_states + layer.dropout(attended)
            size = torch.ones(batch, tokens, device=hidden_states.device) if size is None else size
            moved = match(metric, self.count, self.prefix)
            hidden_states, size = merge(hidden_states, size, moved, self.count)
            place = moved.gather(1, place)
            hidden_states = hidden_states + layer.dropout(layer.mlp(layer.norm2(hidden_states)))
        return hidden_states.gather(1, place.unsqueeze(-1).expand(-1, -1, width))


def attend(
    attention: nn.Module, hidden_states: torch.Tensor, size: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Proportional attention: a key that stands for s tokens counts s times; and the keys, averaged over heads."""
    query, key, value = (
        split_heads(project(hidden_states), attention.num_heads)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    # Where nothing is merged yet there is no mask, and every fused kernel may run.
    bias = None if size is None else size.log()[:, None, None].to(query.dtype)
    output = scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return attention.o_proj(join_heads(output)), key.mean(dim=1)
