"""Token Merging (ToMe; Bolya et al., 2023) of the published description, inside the layers of this package."""

import torch
from torch import nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from hf_primaldual.modeling.layers_primal_dual import PrimalDualLayer

from .attentions import join_heads, refuse_mask, split_heads


class Matching:
    """
    Which tokens go into which: every second token (A) proposes the most similar one of the others (B), by the cosine
    of `metric`, and the `count` most similar pairs merge. Tokens of the prefix, which come first, take no part.

    Args:
        metric (`torch.Tensor` of shape `(batch, tokens, channels)`): the tokens' keys, averaged over heads.
        count (`int`): pairs; at most half of the tokens behind the prefix.
        prefix (`int`): tokens in front.

    Raises:
        ValueError: for a `count` below 0 or above what can be merged.
    """

    def __init__(self, metric: torch.Tensor, count: int, prefix: int = 1):
        batch, tokens, _ = metric.shape
        most = (tokens - prefix) // 2
        if not 0 <= count <= most:
            raise ValueError(f"`count` must lie in 0 to {most}, half of the tokens behind the prefix, got {count}.")
        self.tokens = tokens - count
        # Choosing has no gradient.
        with torch.no_grad():
            metric = normalize(metric[:, prefix:].float(), dim=-1)
            best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(dim=-1)
            order = best.argsort(dim=-1, descending=True)
            going, staying = order[:, :count], order[:, count:].sort(dim=-1).values
            # Each token's place among the merged ones: first the prefix, then what stays of A, then B.
            first_of_b = prefix + staying.shape[1]
            numbers = torch.arange(tokens, device=metric.device).expand(batch, -1)
            of_a = torch.empty_like(partner)
            of_a.scatter_(1, staying, numbers[:, prefix:first_of_b])
            of_a.scatter_(1, going, first_of_b + partner.gather(1, going))
            self.place = numbers.clone()
            self.place[:, prefix::2] = of_a
            self.place[:, prefix + 1 :: 2] = numbers[:, first_of_b : self.tokens]

    def merge(self, hidden_states: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Averages weighted by `size` `(batch, tokens)`, `(batch, tokens - count, width)`, and their sizes."""
        batch, _, width = hidden_states.shape
        total = size.new_zeros(batch, self.tokens).scatter_add(1, self.place, size)
        weighted = hidden_states * size.unsqueeze(-1).to(hidden_states.dtype)
        summed = weighted.new_zeros(batch, self.tokens, width)
        summed = summed.scatter_add(1, self.place.unsqueeze(-1).expand(-1, -1, width), weighted)
        return summed / total.unsqueeze(-1).to(summed.dtype), total


class MergedTokens:
    """What a forward carries from layer to layer: the sizes, and where each of the first layer's tokens is now."""

    size: torch.Tensor
    place: torch.Tensor

    def start(self, hidden_states: torch.Tensor) -> None:
        """Every token stands for itself."""
        batch, tokens, _ = hidden_states.shape
        self.size = torch.ones(batch, tokens, device=hidden_states.device)
        self.place = torch.arange(tokens, device=hidden_states.device).expand(batch, -1)

    def follow(self, matching: Matching, size: torch.Tensor) -> None:
        """After a merge."""
        self.size = size
        self.place = matching.place.gather(1, self.place)

    def restore(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Each of the first layer's tokens gets its merged one's state, so that an average is weighted by size."""
        return hidden_states.gather(1, self.place.unsqueeze(-1).expand(-1, -1, hidden_states.shape[-1]))


class ToMeLayer(nn.Module):
    """
    A softmax layer of this package, with norms before the sublayers, that merges `count` tokens behind `prefix`
    between attention and feed-forward block. Attention is proportional: a key that stands for s tokens counts s times.
    `merged` is shared by all layers of a model; the first one starts it, the last one restores the number of tokens.
    """

    def __init__(
        self, layer: PrimalDualLayer, merged: MergedTokens, count: int, prefix: int, is_first: bool, is_last: bool
    ):
        super().__init__()
        if not layer.pre_norm:
            raise ValueError("ToMe's layer needs norms before the sublayers, `norm_position='pre'`, got 'post'.")
        self.layer = layer
        self.merged = merged
        self.count = count
        self.prefix = prefix
        self.is_first = is_first
        self.is_last = is_last

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        refuse_mask("ToMe", attention_mask)
        if self.is_first:
            self.merged.start(hidden_states)
        layer = self.layer
        attended, metric = self._attend(layer.norm1(hidden_states))
        hidden_states = hidden_states + layer.dropout(attended)
        matching = Matching(metric, self.count, self.prefix)
        hidden_states, size = matching.merge(hidden_states, self.merged.size)
        self.merged.follow(matching, size)
        hidden_states = hidden_states + layer.dropout(layer.mlp(layer.norm2(hidden_states)))
        return self.merged.restore(hidden_states) if self.is_last else hidden_states

    def _attend(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attention = self.layer.self_attn
        query, key, value = (
            split_heads(project(hidden_states), attention.num_heads)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        # Nothing is merged yet in the first layer, and without a mask every fused kernel may run.
        bias = None if self.is_first else self.merged.size.log()[:, None, None].to(query.dtype)
        output = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attention.o_proj(join_heads(output)), key.mean(dim=1)


def merge_tokens(layers: nn.ModuleList, count: int, prefix: int) -> nn.ModuleList:
    """The layers of a softmax encoder with `count` tokens merged in each."""
    merged, last = MergedTokens(), len(layers) - 1
    return nn.ModuleList(
        ToMeLayer(layer, merged, count, prefix, is_first=index == 0, is_last=index == last)
        for index, layer in enumerate(layers)
    )
