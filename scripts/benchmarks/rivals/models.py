"""The models of a comparison by name: this package's, the rivals in its encoder, and transformers' whole models."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from .merging import MergingLayers

BASELINE = "softmax"
# Nystromformer's landmarks, the keys that a convolution of PVTv2 or SegFormer leaves, and Linformer's mixtures.
LANDMARKS = 64
REDUCED_SIDE = 8
MIXTURES = 256
PREFIX = 1
PATCH = 4


def side_of(tokens: int) -> int:
    """Patches along a side of an image of so many."""
    side = round(tokens**0.5)
    if side * side != tokens:
        raise ValueError(f"`tokens` must be a square for images, such as 1024 or 4096, got {tokens}.")
    return side


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
    def reduction(self) -> int:
        """The stride that leaves 8 x 8 keys, as the first stage of PVTv2 and of SegFormer has 7 x 7 at 224 pixels."""
        return max(side_of(self.tokens) // REDUCED_SIDE, 1)

    def text(self) -> dict[str, Any]:
        """The fields that configurations of texts have in common."""
        return self._encoder() | {"vocab_size": self.vocab_size, "max_position_embeddings": self.tokens}

    def image(self) -> dict[str, Any]:
        """The fields that configurations of images have in common."""
        return self._encoder() | {"image_size": side_of(self.tokens) * PATCH, "patch_size": PATCH, "num_channels": 1}

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


def text(shape: Shape, **attention) -> PreTrainedModel:
    return PrimalDualTextForSequenceClassification(PrimalDualTextConfig(**shape.text(), **attention))


def image(shape: Shape, **attention) -> PreTrainedModel:
    config = PrimalDualViTConfig(pooling="mean", norm_eps=1e-6, **shape.image(), **attention)
    return PrimalDualViTForImageClassification(config)


def ours(model: Callable[..., PreTrainedModel], scales: Callable[[int], list[int]]) -> dict[str, Build]:
    """This package's attentions in one of its models; `scales` are the heads' factors where these are not points."""

    def scaled(attention: str) -> Build:
        return lambda shape: model(shape, attention=attention, head_scales=scales(shape.heads))

    return {
        BASELINE: partial(model, attention="softmax"),
        "bn": partial(model, attention="bn"),
        "bn+sh": scaled("bn+sh"),
        "bn+sh:256": partial(model, attention="bn+sh", head_points=256),
        "bn+sh:64": partial(model, attention="bn+sh", head_points=64),
        "bn+sh:64-recentred": partial(model, attention="bn+sh", head_points=64, bn_scaling=False),
        "sh:64": partial(model, attention="sh", head_points=64),
        "linear-bn+sh": scaled("linear-bn+sh"),
    }


def twos_and_fours(heads: int) -> list[int]:
    """2 for the first half of the heads, 4 for the others."""
    return [2] * (heads // 2) + [4] * (heads - heads // 2)


def rival(model: Callable[..., PreTrainedModel], attention: Callable[[Shape], nn.Module]) -> Build:
    """This package's model with another attention in each layer."""

    def build(shape: Shape) -> PreTrainedModel:
        built = model(shape, attention=BASELINE)
        for layer in built.base_model.layers:
            layer.self_attn = attention(shape)
            # From the same distribution as the encoder's own weights.
            layer.self_attn.apply(built._init_weights)
        return built

    return build


def tome(shape: Shape) -> PreTrainedModel:
    """Half of the tokens are merged by the last layer, as with the paper's r = 8 in the 12 layers of ViT-B/16."""
    model = image(shape, attention=BASELINE)
    model.model.layers = nn.ModuleList([MergingLayers(model.model.layers, shape.tokens // (2 * shape.layers), PREFIX)])
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


TEXT_MODELS: dict[str, Build] = ours(text, twos_and_fours) | {
    "nystrom": rival(text, lambda shape: NystromAttention(shape.width, shape.heads, shape.tokens, LANDMARKS)),
    "linformer": rival(text, lambda shape: LinformerAttention(shape.width, shape.heads, shape.tokens, MIXTURES)),
    "fnet": rival(text, lambda shape: FourierMixing()),
    "bert": bert,
    "nystromformer": nystromformer,
}
IMAGE_MODELS: dict[str, Build] = ours(image, lambda heads: [2] * heads) | {
    "pvtv2": rival(image, lambda shape: PvtV2Attention(shape.width, shape.heads, shape.reduction, PREFIX)),
    "pvtv2-li": rival(image, lambda shape: PvtV2Attention(shape.width, shape.heads, None, PREFIX)),
    "segformer": rival(image, lambda shape: SegformerAttention(shape.width, shape.heads, shape.reduction, PREFIX)),
    "tome": tome,
    "vit": vit,
}
