"""A transformer encoder over tokens with the primal-dual framework's attentions, and its classifiers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import causal_mask_function
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPast,
    SequenceClassifierOutput,
)
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_primal_dual_models import PrimalDualTextConfig
from .embeddings_primal_dual_text import PrefixToken, PrimalDualTextEmbeddings, check_positions, check_tokens
from .keywords_primal_dual import check_keywords
from .layers_primal_dual import build_layers, check_labels, mean_over_tokens
from .masks_primal_dual import attention_mask_of, seen_keys
from .modeling_primal_dual import PrimalDualPreTrainedModel
from .packing_primal_dual import intervals_of_starts, starts_of_positions
from .padding_primal_dual import can_look, positions, row_starts, shift_rows
from .training_sets_primal_dual import check_mask

# What an output calls the cache: transformers has renamed it.
CACHE = next(name for name in ("cache", "past_key_values") if name in BaseModelOutputWithPast.__dataclass_fields__)


class PrimalDualTextPooler(nn.Module):
    """A vector for a text: the mean of its tokens, the last, or the first through BERT's dense layer and tanh."""

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__()
        self.num_prefix_tokens = int(config.prepend_cls)
        self.takes_last = config.pooling == "last"
        self.dense = nn.Linear(config.hidden_size, config.hidden_size) if config.pooling == "cls" else None

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`): of [`PrimalDualTextModel`].
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): without the prefix token.

        Returns:
            `torch.Tensor` of shape `(batch, width)`.
        """
        if self.dense is not None:
            starts = None if self.num_prefix_tokens else row_starts(attention_mask)
            if starts is not None:
                hidden_states = shift_rows(hidden_states, starts)
            return torch.tanh(self.dense(hidden_states[:, 0]))
        if self.takes_last:
            tokens = hidden_states[:, self.num_prefix_tokens :]
            if attention_mask is None:
                return tokens[:, -1]
            last = tokens.shape[1] - 1 - attention_mask.flip(1).int().argmax(dim=1)
            return tokens[torch.arange(len(tokens), device=tokens.device), last]
        return mean_over_tokens(hidden_states[:, self.num_prefix_tokens :], attention_mask)


class PrimalDualTextPreTrainedModel(PrimalDualPreTrainedModel):
    config: PrimalDualTextConfig
    _input_embed_layer = "word_embeddings"
    _no_split_modules = ["PrimalDualTextEmbeddings", "PrimalDualLayer"]
    checkpoint_classes = {
        "AutoModel": "modeling_primal_dual_text.PrimalDualTextModel",
        "AutoModelForSequenceClassification": "modeling_primal_dual_text.PrimalDualTextForSequenceClassification",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PrefixToken):
            module.reset_parameters()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of the tokens."""
        return self.base_model.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replaces the embeddings of the tokens."""
        self.base_model.embeddings.word_embeddings = value


class PrimalDualTextModel(PrimalDualTextPreTrainedModel):
    """
    The encoder without a head.

    Args:
        config (`PrimalDualTextConfig`): its field `attention` names the attention.
    """

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__(config)
        self.embeddings = PrimalDualTextEmbeddings(config)
        self.layers, self.norm = build_layers(config)
        self.post_init()

    @deprecate_kwarg("past_key_values", version="5.40.0", new_name="cache")
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput | BaseModelOutputWithPast:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, tokens)`): as a tokenizer returns them, all of its outputs
                may be passed as they are; or `inputs_embeds` instead.
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for a real token, 0 for padding.
                Without it every token counts as real.
            token_type_ids (`torch.LongTensor` of shape `(batch, tokens)`, *optional*): the tokens' segments, zeros by
                default; not looked at where `config.type_vocab_size` is 0.
            inputs_embeds (`torch.Tensor` of shape `(batch, tokens, width)`, *optional*): embedded tokens, to which
                types and positions are added.
            position_ids (`torch.LongTensor` of shape `(batch, tokens)` or `(1, tokens)`, *optional*): the tokens'
                places, by default counted from a row's first real token.
            cache (`Cache`, *optional*): of a decoder, the keys and values of the tokens before these;
                `attention_mask` is then that of all tokens.
            use_cache (`bool`, *optional*): whether a decoder returns them, by default `config.use_cache`.
            kwargs: `output_attentions`, `output_hidden_states`, and flex_attention's `kernel_options`. Attention maps
                come as [`PrimalDualAttention`] returns them.

        Returns:
            `BaseModelOutput`, of a decoder `BaseModelOutputWithPast`, with `last_hidden_state` of shape
            `(batch, tokens, width)`, one token more with `config.prepend_cls`, which is the first; at padded tokens it
            holds nothing of meaning.

        Raises:
            TypeError: for an unknown keyword, and for those of packed sequences.
            ValueError: for both or neither of `input_ids` and `inputs_embeds`, more tokens than
                `config.max_position_embeddings` or none, a row of nothing but padding, another shape; or for a token
                or type outside of its vocabulary, or places that begin anew within a row, as those of packed texts
                do (looked at on a CPU; on other devices that would wait for them).
        """
        check_keywords(self, kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(f"one of `input_ids` and `inputs_embeds` must be given, got {given}.")
        if inputs_embeds is None:
            check_tokens(self.config, input_ids, token_type_ids)
        else:
            self._check_embedded(inputs_embeds)
        if self.config.is_decoder:
            return self._decode(
                input_ids,
                attention_mask,
                token_type_ids,
                inputs_embeds,
                position_ids,
                cache,
                use_cache,
                kwargs,
            )
        if cache is not None:
            raise ValueError("`cache` must not be given to an encoder, whose tokens see those after them.")
        if attention_mask is not None:
            attention_mask = check_mask(attention_mask, input_ids if inputs_embeds is None else inputs_embeds)
        tokens = input_ids if inputs_embeds is None else inputs_embeds
        starts = row_starts(attention_mask)
        if position_ids is None:
            position_ids = positions(tokens.shape[1], starts, tokens.device)
        else:
            check_positions(self.config, position_ids, tokens, attention_mask)

        hidden_states, attention_mask = self.embeddings(
            input_ids, attention_mask, token_type_ids, inputs_embeds, position_ids
        )
        hidden_states = self.encode(hidden_states, attention_mask, row_starts=starts, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)

    def _decode(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
        use_cache: bool | None,
        kwargs: dict[str, Any],
    ) -> BaseModelOutputWithPast:
        """The forward of a decoder."""
        tokens = input_ids if inputs_embeds is None else inputs_embeds
        batch, length = tokens.shape[:2]
        if cache is None and (self.config.use_cache if use_cache is None else use_cache) and not self.training:
            cache = DynamicCache(config=self.config)
        before, (keys, offset) = 0, (length, 0)
        if cache is not None:
            before, (keys, offset) = cache.get_seq_length(), cache.get_mask_sizes(length, 0)
        real = attention_mask if attention_mask is not None and attention_mask.dim() == 2 else None
        if real is attention_mask:
            attention_mask = attention_mask_of(
                batch, length, keys, before, offset, causal_mask_function, real, device=tokens.device
            )
        query, key = (tokens.new_empty(batch, 1, each, 0) for each in (length, keys))
        seen = seen_keys(attention_mask, query, key, is_causal=True, start=before - offset)
        if position_ids is None:
            starts = 0 if real is None else real.int().argmax(dim=1, keepdim=True)
            place = torch.arange(length, device=tokens.device).unsqueeze(0) + before
            position_ids = (place - starts).clamp(min=0)
        elif length == keys and seen is None and can_look(position_ids):
            documents = starts_of_positions(position_ids)
            seen = None if documents is None else intervals_of_starts(documents, is_causal=True)
        hidden_states, _ = self.embeddings(input_ids, None, token_type_ids, inputs_embeds, position_ids)
        hidden_states = self.encode(hidden_states, None, seen=seen, cache=cache, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states, **{CACHE: cache})

    def _check_embedded(self, inputs_embeds: torch.Tensor) -> None:
        width, longest = self.config.hidden_size, self.config.max_position_embeddings
        shape = tuple(inputs_embeds.shape)
        if len(shape) != 3 or shape[2] != width or not 1 <= shape[1] <= longest:
            raise ValueError(
                f"`inputs_embeds` must have shape (batch, tokens, {width}) with 1 to `max_position_embeddings` = "
                f"{longest} tokens, got {shape}."
            )


class PrimalDualTextForSequenceClassification(PrimalDualTextPreTrainedModel):
    """
    The encoder with a classifier of whole texts, on the average of their tokens or on the first one
    (`config.pooling`).

    Args:
        config (`PrimalDualTextConfig`): `num_labels` or `id2label` give the classes, `problem_type` the loss.
    """

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__(config)
        self.model = PrimalDualTextModel(config)
        self.pooler = PrimalDualTextPooler(config)
        self.dropout = nn.Dropout(classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_ids, attention_mask, token_type_ids, inputs_embeds, position_ids, kwargs: as for
                [`PrimalDualTextModel`].
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): classes, 0 to `num_labels - 1`; for several
                labels at once floats `(batch, num_labels)`, for regression floats `(batch,)`.

        Returns:
            `SequenceClassifierOutput` with `logits` of shape `(batch, num_labels)`, and `loss` with `labels`.

        Raises:
            ValueError: as [`PrimalDualTextModel`], and for a label outside the classes (looked at on a CPU).
        """
        outputs = self.model(
            input_ids, attention_mask, token_type_ids, inputs_embeds, position_ids, return_dict=True, **kwargs
        )
        check_labels(labels, self.config, outputs.last_hidden_state.shape[0])
        pooled = self.pooler(outputs.last_hidden_state, attention_mask)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class PrimalDualTextMatchingHead(nn.Module):
    """The classes of a pair of documents from their vectors, by one hidden layer."""

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__()
        self.dropout = nn.Dropout(classifier_dropout(config))
        self.dense = nn.Linear(4 * config.hidden_size, config.intermediate_size)
        self.out_proj = nn.Linear(config.intermediate_size, config.num_labels)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """`(batch, width)` twice to `(batch, num_labels)`."""
        compared = torch.cat((first, second, first * second, first - second), dim=-1)
        return self.out_proj(torch.relu(self.dense(self.dropout(compared))))


class PrimalDualTextForDocumentMatching(PrimalDualTextPreTrainedModel):
    """
    A classifier of pairs of documents, as in Long Range Arena's Retrieval: one encoder turns both into vectors u and
    v, and one hidden layer classifies [u, v, u * v, u - v].

    A checkpoint of it loads through `AutoModelForSequenceClassification`. A batch is two tokenized lists of documents:

    ```python
    first, second = (tokenizer(documents, padding=True, return_tensors="pt") for documents in zip(*pairs))
    model(**first, **{f"pair_{name}": values for name, values in second.items()}, labels=labels)
    ```

    Args:
        config (`PrimalDualTextConfig`): `num_labels`, 2 by default, gives the classes; `intermediate_size` is the
            width of the hidden layer.
    """

    checkpoint_classes = {
        **PrimalDualTextPreTrainedModel.checkpoint_classes,
        "AutoModelForSequenceClassification": "modeling_primal_dual_text.PrimalDualTextForDocumentMatching",
    }

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__(config)
        self.model = PrimalDualTextModel(config)
        self.pooler = PrimalDualTextPooler(config)
        self.classifier = PrimalDualTextMatchingHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pair_input_ids: torch.Tensor | None = None,
        pair_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        pair_token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_ids, attention_mask, token_type_ids: the first documents, as for [`PrimalDualTextModel`].
            pair_input_ids, pair_attention_mask, pair_token_type_ids: the second ones, as many; their length in tokens
                may be another. Both are encoded in one batch, for which the shorter are filled up.
            labels (`torch.Tensor`, *optional*): as for [`PrimalDualTextForSequenceClassification`].
            kwargs: as for [`PrimalDualTextModel`].

        Returns:
            `SequenceClassifierOutput` with `logits` of shape `(batch, num_labels)`, and `loss` with `labels`. Hidden
            states and attention maps have `2 * batch` rows, the first documents and then the second ones.

        Raises:
            ValueError: as [`PrimalDualTextModel`], for documents without a partner, and for a label outside the
                classes (looked at on a CPU).
        """
        if input_ids is None or pair_input_ids is None:
            missing = "input_ids" if input_ids is None else "pair_input_ids"
            raise ValueError(f"`{missing}` must be given: documents are matched in pairs, got None.")
        check_tokens(self.config, input_ids, token_type_ids)
        check_tokens(self.config, pair_input_ids, pair_token_type_ids, prefix="pair_")
        if input_ids.shape[0] != pair_input_ids.shape[0]:
            raise ValueError(
                f"`input_ids` and `pair_input_ids` must hold as many documents, got {input_ids.shape[0]} and "
                f"{pair_input_ids.shape[0]}."
            )
        check_labels(labels, self.config, input_ids.shape[0])
        masks = attention_mask, pair_attention_mask
        if masks != (None, None) or input_ids.shape != pair_input_ids.shape:
            masks = _filled_in(masks, (input_ids, pair_input_ids), torch.ones_like)
            check_mask(masks[0], input_ids)
            check_mask(masks[1], pair_input_ids, name="pair_attention_mask")
            attention_mask = _one_batch(masks)
        types = token_type_ids, pair_token_type_ids
        if types != (None, None):
            token_type_ids = _one_batch(_filled_in(types, (input_ids, pair_input_ids), torch.zeros_like))

        documents = _one_batch((input_ids, pair_input_ids), self.config.pad_token_id or 0)
        outputs = self.model(documents, attention_mask, token_type_ids, return_dict=True, **kwargs)
        pooled, batch = self.pooler(outputs.last_hidden_state, attention_mask), input_ids.shape[0]
        logits = self.classifier(pooled[:batch], pooled[batch:])
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def classifier_dropout(config: PrimalDualTextConfig) -> float:
    """The dropout of what a classifier sees."""
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


def _filled_in(
    pair: tuple[torch.Tensor | None, torch.Tensor | None],
    documents: tuple[torch.Tensor, torch.Tensor],
    default: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """What belongs to both documents, with a default where it was not given for one of them."""
    return tuple(default(ids) if values is None else values for values, ids in zip(pair, documents, strict=True))


def _one_batch(pair: tuple[torch.Tensor, torch.Tensor], padding: int = 0) -> torch.Tensor:
    """`(batch, tokens)` twice to `(2 * batch, the longer's tokens)`."""
    longest = max(values.shape[1] for values in pair)
    filled = (nn.functional.pad(values, (0, longest - values.shape[1]), value=padding) for values in pair)
    return torch.cat(tuple(filled))


PrimalDualTextModel.register_for_auto_class("AutoModel")
for _classifier in (PrimalDualTextForSequenceClassification, PrimalDualTextForDocumentMatching):
    _classifier.register_for_auto_class("AutoModelForSequenceClassification")


__all__ = [
    "PrimalDualTextForDocumentMatching",
    "PrimalDualTextForSequenceClassification",
    "PrimalDualTextModel",
    "PrimalDualTextPreTrainedModel",
]
