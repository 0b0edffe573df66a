"""PrimalDualCausalAttention: the layer of a decoder, with a cache of keys and values."""

import torch
from torch import nn
from transformers.cache_utils import Cache

from .attention_primal_dual import PrimalDualAttention
from .causal_linear_primal_dual import CausalLinearAttention
from .configuration_primal_dual import PrimalDualConfig
from .decoding_primal_dual import memory_of
from .interval_attention_primal_dual import IntervalAttention
from .intervals_primal_dual import Intervals
from .kernels_primal_dual import feature_map
from .keywords_primal_dual import check_keywords


class PrimalDualCausalAttention(PrimalDualAttention):
    """
    Causal attention: each query is a regression of its own, on its key and those before it. Attention-BN takes their
    statistics; Attention-SH the averages of the windows before the query's, and the keys of its own up to it.

    The cache holds all keys and values, as that of softmax attention. Beside those of a `DynamicCache`, sums over the
    keys and the points of whole windows are remembered from one token to the next ([`Memory`]).

    Args:
        config (`PrimalDualConfig`): its field `attention` names the preset: softmax, bn, sh, bn+sh, or one of
            these with a linear kernel.
        layer_idx (`int`, *optional*): the layer's place in a model.
    """

    def __init__(self, config: PrimalDualConfig, layer_idx: int | None = None):
        super().__init__(config, layer_idx)
        self.is_causal = True
        is_downsampled = config.choices.training_set == "downsampled"
        self.scales = config.of_layer(layer_idx).resolved_head_scales() if is_downsampled else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: None = None,
        mask_is_checked: bool = True,
        seen: Intervals | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
            seen (`Intervals`, *optional*): the keys that each query sees, by default all up to its own.
            cache (`Cache`, *optional*): what came before.
            kwargs: `output_attentions=True` for the maps, by default `config.output_attentions`.

        Returns:
            The output of shape `(batch, tokens, width)`; and the maps as [`IntervalAttention`] returns them.

        Raises:
            TypeError: for an unknown keyword.
        """
        check_keywords(self, kwargs)
        query, key, value = (
            self._split_heads(project(hidden_states)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # (batch, tokens, heads, head_dim)
        memory = memory_of(cache, self.layer_idx)
        if cache is not None:
            states = cache.update(key.transpose(1, 2), value.transpose(1, 2), self.layer_idx)
            key, value = (each.transpose(1, 2) for each in states)  # (batch, keys, heads, head_dim)
            if memory is not None:
                memory.keep(states[0])
        sampling = self.config.sampling, self.config.sampling_seed
        with_maps = kwargs.get("output_attentions", self.config.output_attentions)
        if self.config.choices.kernel == "linear":
            if with_maps:
                raise ValueError("`output_attentions` must be false for causal linear attention, which has no maps.")
            phi = feature_map(self.config.feature_map)
            attend = CausalLinearAttention(phi, self.config.feature_map, self._fold(), self.scales, *sampling)
            output = attend(query, key, value, seen).to(hidden_states.dtype)
            return self.o_proj(output.flatten(2)), None
        attend = IntervalAttention(
            self,
            self.scaling,
            self.attention_dropout if self.training else 0.0,
            self._fold(),
            self.scales,
            *sampling,
            with_maps=with_maps or self.config._attn_implementation == "eager",
            memory=memory,
        )
        output, maps = attend(query, key, value, seen)
        return self.o_proj(output.flatten(2)), maps

    def _fold(self) -> tuple | None:
        """Beta, scaling and eps of Attention-BN, if the preset has it."""
        if not self.transforms:
            return None
        norm = self.transforms[0]
        beta = norm.beta.unsqueeze(-1) if isinstance(norm.beta, nn.Parameter) else norm.beta
        return beta, norm.scaling, norm.eps


__all__ = ["PrimalDualCausalAttention"]
