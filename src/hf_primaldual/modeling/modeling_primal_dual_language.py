"""A language model: the text model as a decoder, with a head that predicts the next token."""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from .configuration_primal_dual_models import PrimalDualTextConfig
from .modeling_primal_dual_text import CACHE, PrimalDualTextModel, PrimalDualTextPreTrainedModel


class PrimalDualTextForCausalLM(PrimalDualTextPreTrainedModel, GenerationMixin):
    """
    A language model: the next token from those before it, for a configuration with `is_decoder=True`.

    Args:
        config (`PrimalDualTextConfig`).

    Raises:
        ValueError: for the configuration of an encoder.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.word_embeddings.weight"}
    checkpoint_classes = {
        **PrimalDualTextPreTrainedModel.checkpoint_classes,
        "AutoModelForCausalLM": "modeling_primal_dual_language.PrimalDualTextForCausalLM",
    }

    def __init__(self, config: PrimalDualTextConfig):
        if not config.is_decoder:
            raise ValueError(
                "`is_decoder` must be true for a language model: an encoder's tokens see what they predict."
            )
        super().__init__(config)
        self.model = PrimalDualTextModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.loss_function = ForCausalLMLoss
        self.post_init()

    @deprecate_kwarg("past_key_values", version="5.40.0", new_name="cache")
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """
        Args:
            input_ids, attention_mask, token_type_ids, inputs_embeds, position_ids, cache, use_cache, kwargs:
                as for [`PrimalDualTextModel`].
            labels (`torch.LongTensor` of shape `(batch, tokens)`, *optional*): the tokens themselves, -100 for those
                that do not count; the loss is the mean cross-entropy of each from those before it.
            logits_to_keep (`int` or `torch.Tensor`, *optional*): how many of the last tokens, or which, get logits;
                0 for all.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): the labels of all batches of a step, by which the
                loss is divided, as Trainer gives them.
            kwargs: also `shift_labels`, in place of `labels` for each token the one that follows it, as who parts a
                sequence among devices gives them.

        Returns:
            `CausalLMOutputWithPast` with `logits` of shape `(batch, tokens, vocab_size)`.
        """
        # No argument of its own: Trainer would take it for a second label of each example.
        shift_labels = kwargs.pop("shift_labels", None)
        outputs = self.model(
            input_ids,
            attention_mask,
            token_type_ids,
            inputs_embeds,
            position_ids,
            cache,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None or shift_labels is not None:
            counted = {"num_items_in_batch": num_items_in_batch, "shift_labels": shift_labels}
            loss = self.loss_function(logits, labels, self.config.vocab_size, **counted)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{CACHE: outputs.get(CACHE)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


PrimalDualTextForCausalLM.register_for_auto_class("AutoModelForCausalLM")


__all__ = ["PrimalDualTextForCausalLM"]
