"""A transform of a user's own, in a file of its own, as docs/attentions.md shows it."""

import torch
from torch import nn

from hf_primaldual.modeling.batch_norm_primal_dual import token_statistics


class Whitening(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(config.num_attention_heads, config.head_dim))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.ones_(self.gain)

    def forward(self, query, key, query_mask, key_mask, heads, grid_size=None):
        _, variance, _ = token_statistics(key, key_mask)
        scale = self.gain[heads].flatten() * (variance + 1e-5).rsqrt()
        return query * scale, key * scale
