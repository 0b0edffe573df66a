"""A vision transformer with the primal-dual framework's attentions, and its classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_primal_dual_models import PrimalDualViTConfig, pair
from .keywords_primal_dual import check_keywords
from .layers_primal_dual import build_layers, check_labels
from .modeling_primal_dual import PrimalDualPreTrainedModel


class PrimalDualViTPatchEmbeddings(nn.Module):
    """A linear embedding of each patch."""

    def __init__(self, config: PrimalDualViTConfig):
        super().__init__()
        size = pair(config.patch_size)
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=size, stride=size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.projection(pixel_values).flatten(2).transpose(1, 2)


def interpolate_positions(
    positions: torch.Tensor, prefix: int, grid_size: Sequence[int], new_grid_size: Sequence[int]
) -> torch.Tensor:
    """Positions `(1, prefix + patches, width)` of a grid, interpolated (bicubic) to one of another size."""
    positions, patches = positions.split([prefix, positions.shape[1] - prefix], dim=1)
    grid = patches.unflatten(1, grid_size).permute(0, 3, 1, 2)
    # bicubic exists in float32 on every device.
    grid = nn.functional.interpolate(grid.float(), size=new_grid_size, mode="bicubic", align_corners=False)
    return torch.cat((positions, grid.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)


class PrimalDualViTEmbeddings(nn.Module):
    """CLS, DeiT's distillation token if there is one, and the patches, each with its learned position."""

    def __init__(self, config: PrimalDualViTConfig):
        super().__init__()
        self.config = config
        self.grid_size = tuple(config.grid_size)
        self.prefix = config.num_prefix_tokens
        self.patch_embeddings = PrimalDualViTPatchEmbeddings(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.distillation_token = (
            nn.Parameter(torch.empty(1, 1, config.hidden_size)) if config.distillation_token else None
        )
        patches = self.grid_size[0] * self.grid_size[1]
        self.position_embeddings = nn.Parameter(torch.empty(1, self.prefix + patches, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in (self.cls_token, self.distillation_token, self.position_embeddings):
            if parameter is not None:
                init.trunc_normal_(parameter, mean=0.0, std=self.config.initializer_range)

    def positions_for(self, grid_size: tuple[int, int]) -> torch.Tensor:
        """The learned positions, interpolated (bicubic) to a grid of another size, `(1, tokens, width)`."""
        if grid_size == self.grid_size:
            return self.position_embeddings
        return interpolate_positions(self.position_embeddings, self.prefix, self.grid_size, grid_size)

    def forward(self, pixel_values: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:
        patches = self.patch_embeddings(pixel_values)
        prefix = [token for token in (self.cls_token, self.distillation_token) if token is not None]
        prefix = [token.expand(patches.shape[0], -1, -1) for token in prefix]
        return self.dropout(torch.cat((*prefix, patches), dim=1) + self.positions_for(grid_size))


class PrimalDualViTPreTrainedModel(PrimalDualPreTrainedModel):
    config: PrimalDualViTConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    checkpoint_classes = {
        "AutoModel": "modeling_primal_dual_vit.PrimalDualViTModel",
        "AutoModelForImageClassification": "modeling_primal_dual_vit.PrimalDualViTForImageClassification",
    }
    _no_split_modules = ["PrimalDualViTEmbeddings", "PrimalDualLayer"]
    _input_embed_layer = "patch_embeddings"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PrimalDualViTEmbeddings):
            module.reset_parameters()


class PrimalDualViTModel(PrimalDualViTPreTrainedModel):
    """
    The encoder without a head.

    Args:
        config (`PrimalDualViTConfig`): its field `attention` names the attention.
    """

    def __init__(self, config: PrimalDualViTConfig):
        super().__init__(config)
        self.embeddings = PrimalDualViTEmbeddings(config)
        self.layers, self.norm = build_layers(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`): normalized images, of
                `config.image_size` or of any other multiple of the patch.
            interpolate_pos_encoding (`bool`, *optional*): `False` refuses other sizes, as transformers' ViT does by
                default; here positions are interpolated to them.
            kwargs: `output_attentions`, `output_hidden_states`, and flex_attention's `kernel_options`. Attention maps
                come as [`PrimalDualAttention`] returns them.

        Returns:
            `BaseModelOutput` with `last_hidden_state` of shape `(batch, prefix + patches, width)`.

        Raises:
            TypeError: for an unknown keyword.
            ValueError: when the channels are not the configuration's, or the size is no multiple of the patch.
        """
        check_keywords(self, kwargs)
        grid_size = self._grid_size_of(pixel_values, interpolate_pos_encoding)
        hidden_states = self.embeddings(pixel_values.to(self.dtype), grid_size)
        return BaseModelOutput(last_hidden_state=self.encode(hidden_states, grid_size=grid_size, **kwargs))

    def _grid_size_of(self, pixel_values: torch.Tensor, interpolate: bool | None) -> tuple[int, int]:
        channels, shape = self.config.num_channels, tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != channels:
            raise ValueError(
                f"`pixel_values` must have shape (batch, channels, height, width) with {channels} channels, got "
                f"{shape}."
            )
        patch = pair(self.config.patch_size)
        height, width = shape[2:]
        if height % patch[0] or width % patch[1] or not height or not width:
            raise ValueError(
                f"`pixel_values` must have a height and width that are multiples of `patch_size` {patch}, got "
                f"{(height, width)}; resize or pad the images, since cutting them would lose their edges."
            )
        if interpolate is False and (height, width) != pair(self.config.image_size):
            raise ValueError(
                f"`pixel_values` of {(height, width)} differ from `image_size` {pair(self.config.image_size)}, and "
                "`interpolate_pos_encoding=False` forbids to interpolate the positions."
            )
        return height // patch[0], width // patch[1]


@dataclass
class PrimalDualViTClassifierOutput(ImageClassifierOutput):
    """
    `ImageClassifierOutput`; with a distillation head, `logits` is the average of `cls_logits` and
    `distillation_logits`, all of shape `(batch, num_labels)`.
    """

    cls_logits: torch.FloatTensor | None = None
    distillation_logits: torch.FloatTensor | None = None


class PrimalDualViTForImageClassification(PrimalDualViTPreTrainedModel):
    """
    The encoder with a classifier of images, on the CLS token or on the average of the patches (`config.pooling`).

    Args:
        config (`PrimalDualViTConfig`): `num_labels` or `id2label` give the classes.
    """

    def __init__(self, config: PrimalDualViTConfig):
        super().__init__(config)
        self.model = PrimalDualViTModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.distillation_classifier = (
            nn.Linear(config.hidden_size, config.num_labels) if config.distillation_head else None
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        distillation_targets: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: Any,
    ) -> PrimalDualViTClassifierOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`): normalized images.
            labels (`torch.Tensor`, *optional*): classes, 0 to `num_labels - 1`, of shape `(batch,)`; for several
                labels at once floats `(batch, num_labels)`, for regression floats `(batch,)` or the same.
            distillation_targets (`torch.Tensor` of the labels' shape, *optional*): those of a teacher, for the
                distillation head (DeiT's hard distillation); by default `labels`.
            interpolate_pos_encoding, kwargs: as for [`PrimalDualViTModel`].

        Returns:
            `PrimalDualViTClassifierOutput` with `logits` of shape `(batch, num_labels)`, and `loss` with `labels`:
            with a distillation head the average of both heads' losses.

        Raises:
            ValueError: as [`PrimalDualViTModel`], and for a label outside the classes (looked at on a CPU).
        """
        check_labels(labels, self.config, pixel_values.shape[0])
        check_labels(distillation_targets, self.config, pixel_values.shape[0])
        outputs = self.model(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, return_dict=True, **kwargs
        )
        hidden_states = outputs.last_hidden_state
        prefix = self.config.num_prefix_tokens
        pooled = hidden_states[:, 0] if self.config.pooling == "cls" else hidden_states[:, prefix:].mean(dim=1)
        logits = cls_logits = self.classifier(pooled)
        distillation_logits = None
        if self.distillation_classifier is not None:
            distillation_logits = self.distillation_classifier(hidden_states[:, 1])
            logits = (cls_logits + distillation_logits) / 2
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, cls_logits, self.config, **kwargs)
            if distillation_logits is not None:
                teacher = labels if distillation_targets is None else distillation_targets
                loss = (loss + self.loss_function(teacher, distillation_logits, self.config, **kwargs)) / 2
        return PrimalDualViTClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cls_logits=None if distillation_logits is None else cls_logits,
            distillation_logits=distillation_logits,
        )


PrimalDualViTModel.register_for_auto_class("AutoModel")
PrimalDualViTForImageClassification.register_for_auto_class("AutoModelForImageClassification")


__all__ = ["PrimalDualViTForImageClassification", "PrimalDualViTModel", "PrimalDualViTPreTrainedModel"]
