"""The models of a comparison by name: this package's, the rivals in its encoder, and transformers' whole models."""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Shape:
    """
    What all models of a comparison have in common.

    Attributes:
        tokens: length of a text, or patches of an image: then a square number.
        width, heads, layers, intermediate: of the encoder.
        labels: classes.
        vocab_size: of texts.
        patch: side of a patch in pixels.
        dropout: of embeddings and sublayers.
        initializer_range: deviation of the weights at the start.
        attn_implementation: back-end of the models that have a choice.
    """

    tokens: int
    width: int
    heads: int
    layers: int
    intermediate: int
    labels: int
    vocab_size: int = 384
    patch: int = 4
    dropout: float = 0.0
    initializer_range: float = 0.1
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

    def encoder(self) -> dict:
        """The fields that the configurations of transformers and of this package have in common."""
        return {
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": self.initializer_range,
            "num_labels": self.labels,
        }


Build = Callable[[Shape], PreTrainedModel]


def factors(heads: int) -> list[int]:
    """Factors of bn+sh: 2 for the first half of the heads, 4 for the others; `[2, 4]` for two."""
    return [2] * (heads // 2) + [4] * (heads - heads // 2)


def ours_text(attention: str, **options) -> Build:
    def build(shape: Shape) -> PreTrainedModel:
        config = PrimalDualTextConfig(
            attention=attention,
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.tokens,
            attn_implementation=shape.attn_implementation,
            **shape.encoder(),
            **_resolved(options, shape),
        )
        return PrimalDualTextForSequenceClassification(config)

    return build


def ours_image(attention: str, **options) -> Build:
    def build(shape: Shape) -> PreTrainedModel:
        config = PrimalDualViTConfig(
            attention=attention,
            image_size=shape.side * shape.patch,
            patch_size=shape.patch,
            num_channels=1,
            pooling="mean",
            attn_implementation=shape.attn_implementation,
            norm_eps=1e-6,
            **shape.encoder(),
            **_resolved(options, shape),
        )
        return PrimalDualViTForImageClassification(config)

    return build


def _resolved(options: dict, shape: Shape) -> dict:
    """Options that follow from the number of heads are functions of it."""
    return {name: value(shape.heads) if callable(value) else value for name, value in options.items()}


def text_rival(attention: Callable[[Shape], nn.Module]) -> Build:
    """This package's text model with another attention in each layer."""
    return _replaced(ours_text("softmax"), attention)


def image_rival(attention: Callable[[Shape], nn.Module]) -> Build:
    """This package's vision transformer with another attention in each layer."""
    return _replaced(ours_image("softmax"), attention)


def _replaced(build_softmax: Build, attention: Callable[[Shape], nn.Module]) -> Build:
    def build(shape: Shape) -> PreTrainedModel:
        model = build_softmax(shape)
        for layer in model.base_model.layers:
            layer.self_attn = attention(shape)
            # From the same distribution as the encoder's own weights.
            layer.self_attn.apply(model._init_weights)
        return model

    return build


def _reduction(shape: Shape) -> int:
    """The stride that leaves 8 x 8 keys, as the first stage of PVTv2 and of SegFormer has 7 x 7 at 224 pixels."""
    return max(shape.side // REDUCED_SIDE, 1)


def tome(shape: Shape) -> PreTrainedModel:
    """Half of the tokens are merged by the last layer, as with the paper's r = 8 in the 12 layers of ViT-B/16."""
    model = ours_image("softmax")(shape)
    model.model.layers = merge_tokens(model.model.layers, shape.tokens // (2 * shape.layers), PREFIX)
    return model


def bert(shape: Shape) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=shape.vocab_size,
        max_position_embeddings=shape.tokens,
        attn_implementation=shape.attn_implementation,
        **shape.encoder(),
    )
    return BertForSequenceClassification(config)


def nystromformer(shape: Shape) -> PreTrainedModel:
    if shape.tokens % LANDMARKS:
        raise ValueError(f"`tokens` must be a multiple of Nystromformer's {LANDMARKS} landmarks, got {shape.tokens}.")
    config = NystromformerConfig(
        vocab_size=shape.vocab_size,
        max_position_embeddings=shape.tokens,
        # Its landmarks are means over segments of exactly this length.
        segment_means_seq_len=shape.tokens,
        num_landmarks=LANDMARKS,
        **shape.encoder(),
    )
    return NystromformerForSequenceClassification(config)


def vit(shape: Shape) -> PreTrainedModel:
    config = ViTConfig(
        image_size=shape.side * shape.patch,
        patch_size=shape.patch,
        num_channels=1,
        attn_implementation=shape.attn_implementation,
        **shape.encoder(),
    )
    return ViTForImageClassification(config)


TEXT_MODELS: dict[str, Build] = {
    BASELINE: ours_text("softmax"),
    "bn": ours_text("bn"),
    "bn+sh": ours_text("bn+sh", head_scales=factors),
    "bn+sh:256": ours_text("bn+sh", head_points=256),
    "bn+sh:64": ours_text("bn+sh", head_points=64),
    "bn+sh:64-recentred": ours_text("bn+sh", head_points=64, bn_scaling=False),
    "sh:64": ours_text("sh", head_points=64),
    "linear-bn+sh": ours_text("linear-bn+sh", head_scales=factors),
    "nystrom": text_rival(lambda shape: NystromAttention(shape.width, shape.heads, shape.tokens, LANDMARKS)),
    "linformer": text_rival(lambda shape: LinformerAttention(shape.width, shape.heads, shape.tokens, MIXTURES)),
    "fnet": text_rival(lambda shape: FourierMixing()),
    "bert": bert,
    "nystromformer": nystromformer,
}

IMAGE_MODELS: dict[str, Build] = {
    BASELINE: ours_image("softmax"),
    "bn": ours_image("bn"),
    "bn+sh": ours_image("bn+sh", head_scales=lambda heads: [2] * heads),
    "bn+sh:256": ours_image("bn+sh", head_points=256),
    "bn+sh:64": ours_image("bn+sh", head_points=64),
    "bn+sh:64-recentred": ours_image("bn+sh", head_points=64, bn_scaling=False),
    "sh:64": ours_image("sh", head_points=64),
    "linear-bn+sh": ours_image("linear-bn+sh", head_scales=lambda heads: [2] * heads),
    "pvtv2": image_rival(lambda shape: PvtV2Attention(shape.width, shape.heads, _reduction(shape), PREFIX)),
    "pvtv2-li": image_rival(lambda shape: PvtV2Attention(shape.width, shape.heads, None, PREFIX)),
    "segformer": image_rival(lambda shape: SegformerAttention(shape.width, shape.heads, _reduction(shape), PREFIX)),
    "tome": tome,
    "vit": vit,
}
