"""A transformer encoder over multivariate series with the primal-dual framework's attentions, and its classifier."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_primal_dual_models import PrimalDualTimeSeriesConfig
from .keywords_primal_dual import check_keywords
from .layers_primal_dual import build_layers, check_labels, mean_over_tokens
from .modeling_primal_dual import PrimalDualPreTrainedModel
from .padding_primal_dual import can_look, positions, row_starts, shift_rows
from .training_sets_primal_dual import check_mask

if TYPE_CHECKING:
    # Never run: `save_pretrained` copies the files that are imported here, and these two must travel with the model.
    from .feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor  # noqa: F401
    from .pipeline_primal_dual import TimeSeriesClassificationPipeline  # noqa: F401


class PrimalDualTimeSeriesEmbeddings(nn.Module):
    """A linear embedding of each step's channels, plus a learned position."""

    def __init__(self, config: PrimalDualTimeSeriesConfig):
        super().__init__()
        self.config = config
        self.value_projection = nn.Linear(config.num_channels, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, past_values: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.value_projection(past_values) + self.position_embeddings(position_ids))


class PrimalDualTimeSeriesPreTrainedModel(PrimalDualPreTrainedModel):
    config: PrimalDualTimeSeriesConfig
    main_input_name = "past_values"
    input_modalities = ("time",)
    checkpoint_classes = {
        "AutoModel": "modeling_primal_dual_time_series.PrimalDualTimeSeriesModel",
        "AutoModelForSequenceClassification": (
            "modeling_primal_dual_time_series.PrimalDualTimeSeriesForSequenceClassification"
        ),
    }
    _no_split_modules = ["PrimalDualTimeSeriesEmbeddings", "PrimalDualLayer"]
    _input_embed_layer = "value_projection"


class PrimalDualTimeSeriesModel(PrimalDualTimeSeriesPreTrainedModel):
    """
    The encoder without a head.

    Args:
        config (`PrimalDualTimeSeriesConfig`): its field `attention` names the attention.
    """

    def __init__(self, config: PrimalDualTimeSeriesConfig):
        super().__init__(config)
        self.embeddings = PrimalDualTimeSeriesEmbeddings(config)
        self.layers, self.norm = build_layers(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, past_values: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """
        Args:
            past_values (`torch.Tensor` of shape `(batch, time, channels)`): standardized values; what lies in padding
                is not looked at.
            attention_mask (`torch.Tensor` of shape `(batch, time)`, *optional*): 1 for a real step, 0 for padding.
            kwargs: `output_attentions`, `output_hidden_states`, and flex_attention's `kernel_options`. Attention maps
                come as [`PrimalDualAttention`] returns them.

        Returns:
            `BaseModelOutput` with `last_hidden_state` of shape `(batch, time, width)`; at padded steps it holds
            nothing of meaning.

        Raises:
            TypeError: for an unknown keyword.
            ValueError: when a shape does not fit the configuration, a row has no real step, or a real value is not
                finite (looked at on a CPU; on other devices that would wait for them).
        """
        check_keywords(self, kwargs)
        self._check_shape(past_values)
        if attention_mask is not None:
            attention_mask = check_mask(attention_mask, past_values)
        starts = row_starts(attention_mask)
        if attention_mask is not None:
            past_values = past_values.masked_fill(~attention_mask.unsqueeze(-1), 0.0)
        if past_values.device.type == "cpu" and can_look(past_values):
            finite = torch.isfinite(past_values).all(dim=-1)
            if not finite.all():
                row, step = (~finite).nonzero()[0].tolist()
                raise ValueError(
                    f"`past_values` must be finite, got {past_values[row, step].tolist()} at row {row}, step {step}."
                )
        position_ids = positions(past_values.shape[1], starts, past_values.device)
        hidden_states = self.embeddings(past_values.to(self.dtype), position_ids)
        hidden_states = self.encode(hidden_states, attention_mask, row_starts=starts, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)

    def _check_shape(self, past_values: torch.Tensor) -> None:
        channels, longest = self.config.num_channels, self.config.max_position_embeddings
        shape = tuple(past_values.shape)
        if len(shape) != 3 or shape[2] != channels:
            raise ValueError(
                f"`past_values` must have shape (batch, time, channels) with {channels} channels, got {shape}."
            )
        if not 1 <= shape[1] <= longest:
            raise ValueError(
                f"`past_values` must have 1 to `max_position_embeddings` = {longest} steps, got {shape[1]}."
            )


class PrimalDualTimeSeriesForSequenceClassification(PrimalDualTimeSeriesPreTrainedModel):
    """
    The encoder with a classifier of whole series, on all steps side by side or on their average (`config.pooling`).

    Args:
        config (`PrimalDualTimeSeriesConfig`): `num_labels` or `id2label` give the classes.
    """

    def __init__(self, config: PrimalDualTimeSeriesConfig):
        super().__init__(config)
        self.model = PrimalDualTimeSeriesModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.activation_fn = ACT2FN[config.hidden_act]
        steps = config.max_position_embeddings if config.pooling == "flatten" else 1
        self.classifier = nn.Linear(steps * config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        past_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            past_values (`torch.Tensor` of shape `(batch, time, channels)`): standardized values.
            attention_mask (`torch.Tensor` of shape `(batch, time)`, *optional*): 1 for a real step, 0 for padding.
            labels (`torch.Tensor`, *optional*): classes, 0 to `num_labels - 1`, of shape `(batch,)`; for several
                labels at once floats `(batch, num_labels)`, for regression floats `(batch,)` or the same.
            kwargs: as for [`PrimalDualTimeSeriesModel`].

        Returns:
            `SequenceClassifierOutput` with `logits` of shape `(batch, num_labels)`, and `loss` with `labels`.

        Raises:
            ValueError: as [`PrimalDualTimeSeriesModel`], and for a label outside the classes (looked at on a CPU).
        """
        check_labels(labels, self.config, past_values.shape[0])
        outputs = self.model(past_values, attention_mask, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(self._pool(outputs.last_hidden_state, attention_mask)))
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _pool(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        if self.config.pooling == "mean":
            return mean_over_tokens(hidden_states, attention_mask)
        hidden_states = self.activation_fn(hidden_states)
        if attention_mask is not None:
            hidden_states = hidden_states * attention_mask.to(hidden_states.dtype).unsqueeze(-1)
            if (starts := row_starts(attention_mask)) is not None:
                hidden_states = shift_rows(hidden_states, starts)
        missing = self.config.max_position_embeddings - hidden_states.shape[1]
        return nn.functional.pad(hidden_states, (0, 0, 0, missing)).flatten(1)


PrimalDualTimeSeriesModel.register_for_auto_class("AutoModel")
PrimalDualTimeSeriesForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")


__all__ = [
    "PrimalDualTimeSeriesForSequenceClassification",
    "PrimalDualTimeSeriesModel",
    "PrimalDualTimeSeriesPreTrainedModel",
]
