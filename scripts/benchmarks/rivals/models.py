"""The models of a comparison by name: this package's, the rivals in its encoder, and transformers' whole models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    NystromformerConfig,
    NystromformerForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
)

from .attentions import FourierMixing, LinformerAttention, NystromAttention, PvtV2Attention, SegformerAttention
from .merging import merge_tokens

BASELINE = "softmax"
# Nystromformer's landmarks, the keys that a convolution of PVTv2 or SegFormer leaves, and Linformer's mixtures.
LANDMARKS = 64
REDUCED_SIDE = 8
MIXTURES = 256
PREFIX = 1
PATCH = 4


@dataclass(frozen=True)
class Shape:
    """What all models of a comparison have in common; `tokens` are of a text, or patches of an image."""

    tokens: int
    width: int
    heads: int
    layers: int
    intermediate: int
    labels: int
    vocab_size: int = 384
    attn_implementation: str = "sdpa"

    @property
    def side(self) -> int:
        """Patches along a side of an image.

        Raises:
            ValueError: `tokens` is no square.
        """
        side = round(self.tokens**0.5)
        if side * side != self.tokens:
            raise ValueError(f"`tokens` must be a square for images, such as 1024 or 4096, got {self.tokens}.")
        return side

    @property
    def reduction(self) -> int:
        """The stride that leaves 8 x 8 keys, as the first stage of PVTv2 and of SegFormer has 7 x 7 at 224 pixels."""
        return max(self.side // REDUCED_SIDE, 1)

    def text(self) -> dict[str, Any]:
        """The fields that configurations of texts have in common."""
        return self._encoder() | {"vocab_size": self.vocab_size, "max_position_embeddings": self.tokens}

    def image(self) -> dict[str, Any]:
        """The fields that configurations of images have in common."""
        return self._encoder() | {"image_size": self.side * PATCH, "patch_size": PATCH, "num_channels": 1}

    def _encoder(self) -> dict[str, Any]:
        return {
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": 0.1,
            "num_labels": self.labels,
            "attn_implementation": self.attn_implementation,
        }


Build = Callable[[Shape], PreTrainedModel]


def ours_text(attention: str, head_scales: Callable[[int], list[int]] = lambda heads: None, **options) -> Build:
    def build(shape: Shape) -> PreTrainedModel:
        options["head_scales"] = head_scales(shape.heads)
        return PrimalDualTextForSequenceClassification(
            PrimalDualTextConfig(attention=attention, **shape.text(), **options)
        )

    return build


def ours_image(attention: str, head_scales: Callable[[int], list[int]] = lambda heads: None, **options) -> Build:
    def build(shape: Shape) -> PreTrainedModel:
        options["head_scales"] = head_scales(shape.heads)
        return PrimalDualViTForImageClassification(
            PrimalDualViTConfig(attention=attention, pooling="mean", norm_eps=1e-6, **shape.image(), **options)
        )

    return build


def twos_and_fours(heads: int) -> list[int]:
    """Factors of bn+sh: 2 for the first half of the heads, 4 for the others; `[2, 4]` for two."""
    return [2] * (heads // 2) + [4] * (heads - heads // 2)


def twos(heads: int) -> list[int]:
    return [2] * heads


def rival(build_softmax: Build, attention: Callable[[Shape], nn.Module]) -> Build:
    """This package's model with another attention in each layer."""

    def build(shape: Shape) -> PreTrainedModel:
        model = build_softmax(shape)
        for layer in model.base_model.layers:
            layer.self_attn = attention(shape)
            # From the same distribution as the encoder's own weights.
            layer.self_attn.apply(model._init_weights)
        return model

    return build


def tome(shape: Shape) -> PreTrainedModel:
    """Half of the tokens are merged by the last layer, as with the paper's r = 8 in the 12 layers of ViT-B/16."""
    model = ours_image("softmax")(shape)
    model.model.layers = merge_tokens(model.model.layers, shape.tokens // (2 * shape.layers), PREFIX)
    return model


def bert(shape: Shape) -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**shape.text()))


def nystromformer(shape: Shape) -> PreTrainedModel:
    if shape.tokens % LANDMARKS:
        raise ValueError(f"`tokens` must be a multiple of Nystromformer's {LANDMARKS} landmarks, got {shape.tokens}.")
    fields = {name: value for name, value in shape.text().items() if name != "attn_implementation"}
    # Its landmarks are means over segments of exactly this length.
    config = NystromformerConfig(segment_means_seq_len=shape.tokens, num_landmarks=LANDMARKS, **fields)
    return NystromformerForSequenceClassification(config)


def vit(shape: Shape) -> PreTrainedModel:
    return ViTForImageClassification(ViTConfig(**shape.image()))


SOFTMAX_TEXT, SOFTMAX_IMAGE = ours_text("softmax"), ours_image("softmax")
TEXT_MODELS: dict[str, Build] = {
    BASELINE: SOFTMAX_TEXT,
    "bn": ours_text("bn"),
    "bn+sh": ours_text("bn+sh", twos_and_fours),
    "bn+sh:256": ours_text("bn+sh", head_points=256),
    "bn+sh:64": ours_text("bn+sh", head_points=64),
    "bn+sh:64-recentred": ours_text("bn+sh", head_points=64, bn_scaling=False),
    "sh:64": ours_text("sh", head_points=64),
    "linear-bn+sh": ours_text("linear-bn+sh", twos_and_fours),
    "nystrom": rival(SOFTMAX_TEXT, lambda shape: NystromAttention(shape.width, shape.heads, shape.tokens, LANDMARKS)),
    "linformer": rival(
        SOFTMAX_TEXT, lambda shape: LinformerAttention(shape.width, shape.heads, shape.tokens, MIXTURES)
    ),
    "fnet": rival(SOFTMAX_TEXT, lambda shape: FourierMixing()),
    "bert": bert,
    "nystromformer": nystromformer,
}
IMAGE_MODELS: dict[str, Build] = {
    BASELINE: SOFTMAX_IMAGE,
    "bn": ours_image("bn"),
    "bn+sh": ours_image("bn+sh", twos),
    "bn+sh:256": ours_image("bn+sh", head_points=256),
    "bn+sh:64": ours_image("bn+sh", head_points=64),
    "bn+sh:64-recentred": ours_image("bn+sh", head_points=64, bn_scaling=False),
    "sh:64": ours_image("sh", head_points=64),
    "linear-bn+sh": ours_image("linear-bn+sh", twos),
    "pvtv2": rival(SOFTMAX_IMAGE, lambda shape: PvtV2Attention(shape.width, shape.heads, shape.reduction, PREFIX)),
    "pvtv2-li": rival(SOFTMAX_IMAGE, lambda shape: PvtV2Attention(shape.width, shape.heads, None, PREFIX)),
    "segformer": rival(
        SOFTMAX_IMAGE, lambda shape: SegformerAttention(shape.width, shape.heads, shape.reduction, PREFIX)
    ),
    "tome": tome,
    "vit": vit,
}
