"""The configurations of the models: what their architectures need besides the attention."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_primal_dual import PrimalDualConfig
from .validation_primal_dual import check_name
from .versions_primal_dual import naming_the_version


@strict
class PrimalDualEncoderConfig(PrimalDualConfig):
    r"""
    What every encoder of this package needs to know besides its attention; each model's configuration adds to it.

    Args:
        num_hidden_layers (`int`, *optional*, defaults to 2):
            Number of layers.
        intermediate_size (`int`, *optional*, defaults to 128):
            Width inside the feed-forward blocks.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of the feed-forward blocks.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout of embeddings, sublayers and the classifier's input.
        norm_type (`str`, *optional*, defaults to `"layer"`):
            `"layer"`, or `"batch"`, over the real tokens of the batch with running averages.
        norm_position (`str`, *optional*, defaults to `"pre"`):
            `"pre"`, before the sublayer, or `"post"`, after the residual sum.
        norm_eps (`float`, *optional*, defaults to 1e-6):
            Added to the variances of these norms.
        layer_scale_init_value (`float`, *optional*):
            Where the learned factors of the residual branches' channels start; without it there are none.
        drop_path_rate (`float`, *optional*, defaults to 0.0):
            Share of the rows for which the last layer's residual branches are left out in training; it grows from zero
            for the first layer.

    The other arguments are those of [`PrimalDualConfig`].
    """

    num_hidden_layers: int = 2
    intermediate_size: int = 128
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    norm_type: str = "layer"
    norm_position: str = "pre"
    norm_eps: float = 1e-6
    layer_scale_init_value: float | int | None = None
    drop_path_rate: float | int = 0.0
    if TYPE_CHECKING:
        # Taken by transformers, which has no fields of these names.
        num_labels: int = 2
        attn_implementation: str | None = None

    # What FSDP2 gathers and frees as one; the rest of a model is a group of its own.
    base_model_fsdp_plan = {"layers.*": "free_full_weight"}

    # What must be at least 1, and what may be set to few values; each model's configuration adds its own.
    _positive: ClassVar[tuple[str, ...]] = ("num_hidden_layers", "intermediate_size")
    _allowed: ClassVar[dict[str, tuple[str, ...]]] = {
        "norm_type": ("layer", "batch"),
        "norm_position": ("pre", "post"),
    }

    def validate_encoder(self) -> None:
        """Part of `@strict`'s validation."""
        with naming_the_version(self.hf_primaldual_version):
            self._validate_encoder()

    def _validate_encoder(self) -> None:
        for name in self._positive:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name, allowed in self._allowed.items():
            check_name(name, getattr(self, name), allowed)
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"`drop_path_rate` must lie from 0 to below 1, got {self.drop_path_rate}.")


SERIES_TASK = "time-series-classification"


class RegisteredPipelines(dict):
    """
    The `custom_pipelines` of a configuration where this package is installed.

    `pipeline` runs a checkpoint's own code, for which it wants trust, for a task that is `in` these. The package has
    registered its class for series, which needs none; the task can still be inferred from the key.
    """

    def __contains__(self, task: object) -> bool:
        return task != SERIES_TASK and super().__contains__(task)


@strict
class PrimalDualTimeSeriesConfig(PrimalDualEncoderConfig):
    r"""
    Configuration of a transformer encoder over multivariate series, with its classifier.

    The defaults are the encoder of Zerveas et al. (2021) that the paper's smaller UEA tasks use: 3 layers, width 64,
    FFN 256, batch normalization after each sublayer, flattened head. The larger tasks' set-up is
    `num_hidden_layers=2, hidden_size=512, intermediate_size=2048, norm_type="layer"`.

    Args:
        num_channels (`int`, *optional*, defaults to 1):
            Channels of the series.
        max_position_embeddings (`int`, *optional*, defaults to 512):
            Longest series, in steps; positions are learned.
        pooling (`str`, *optional*, defaults to `"flatten"`):
            `"flatten"` classifies all steps side by side, after `hidden_act` and up to `max_position_embeddings`;
            `"mean"` their average.

    The other arguments are those of [`PrimalDualEncoderConfig`], with other defaults for some.
    """

    model_type = "primal_dual_time_series"

    num_channels: int = 1
    max_position_embeddings: int = 512
    num_hidden_layers: int = 3
    intermediate_size: int = 256
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    norm_type: str = "batch"
    norm_position: str = "post"
    norm_eps: float = 1e-5
    pooling: str = "flatten"

    _positive = (*PrimalDualEncoderConfig._positive, "num_channels", "max_position_embeddings")
    _allowed = {**PrimalDualEncoderConfig._allowed, "pooling": ("flatten", "mean")}

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # Lets `pipeline(model=folder, trust_remote_code=True)` find the pipeline that travels with the checkpoint.
        pipelines = getattr(self, "custom_pipelines", None) or {
            SERIES_TASK: {
                "impl": "pipeline_primal_dual.TimeSeriesClassificationPipeline",
                "pt": ["AutoModelForSequenceClassification"],
                "type": "multimodal",
            }
        }
        travels = __name__.startswith("transformers_modules.")
        self.custom_pipelines = pipelines if travels else RegisteredPipelines(pipelines)


@strict
class PrimalDualViTConfig(PrimalDualEncoderConfig):
    r"""
    Configuration of a vision transformer: ViT (Dosovitskiy et al., 2021) and DeiT (Touvron et al., 2021).

    The defaults are DeiT-tiny/16 without distillation, the paper's ImageNet model. A head's factor r pools windows of
    r x r patches on their grid.

    Args:
        image_size (`int` or `list[int]`, *optional*, defaults to 224):
            Height and width of the images in pixels. Others may be passed to the model, which then interpolates its
            positions.
        patch_size (`int` or `list[int]`, *optional*, defaults to 16):
            Height and width of a patch in pixels.
        num_channels (`int`, *optional*, defaults to 3):
            Channels of the images.
        distillation_token (`bool`, *optional*, defaults to `False`):
            Adds DeiT's second token.
        distillation_head (`bool`, *optional*, defaults to `False`):
            Classifies that token too; the logits are the average of both heads'.
        pooling (`str`, *optional*, defaults to `"cls"`):
            `"cls"` classifies the first token, `"mean"` the average of the patches.

    The other arguments are those of [`PrimalDualEncoderConfig`], with other defaults for some. `grid_size` and
    `num_prefix_tokens` follow from these.
    """

    model_type = "primal_dual_vit"
    # Trainer gathers logits alone for metrics.
    keys_to_ignore_at_inference = ["cls_logits", "distillation_logits"]
    attribute_map = {"layer_norm_eps": "norm_eps", "layerscale_value": "layer_scale_init_value"}

    image_size: int | list[int] | tuple[int, ...] = 224
    patch_size: int | list[int] | tuple[int, ...] = 16
    num_channels: int = 3
    distillation_token: bool = False
    distillation_head: bool = False
    pooling: str = "cls"
    hidden_size: int = 192
    num_attention_heads: int = 3
    num_hidden_layers: int = 12
    intermediate_size: int = 768
    norm_eps: float = 1e-12

    _positive = (*PrimalDualEncoderConfig._positive, "num_channels")
    _allowed = {**PrimalDualEncoderConfig._allowed, "pooling": ("cls", "mean")}

    def __post_init__(self, **kwargs: Any) -> None:
        self._follow_image_size()
        super().__post_init__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # A configuration's fields may be set one by one, by `from_pretrained` too.
        shape = ("image_size", "patch_size", "distillation_token")
        if name in shape and vars(self).keys() >= set(shape):
            self._follow_image_size()

    def _follow_image_size(self) -> None:
        """Sets the grid and the prefix. Sizes that do not go together are refused once all fields are set."""
        sizes = pair(self.image_size), pair(self.patch_size)
        if all(len(size) == 2 and min(size) > 0 for size in sizes):
            self.grid_size = [side // patch for side, patch in zip(*sizes, strict=True)]
        self.num_prefix_tokens = 2 if self.distillation_token else 1

    def _validate_attention(self) -> None:
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            if len(pair(value)) != 2 or min(pair(value)) < 1:
                raise ValueError(
                    f"`{name}` must be one size, or a height and a width, of at least 1 pixel; got {value}."
                )
        if min(self.grid_size) < 1:
            raise ValueError(
                f"`image_size` ({self.image_size}) must hold at least one patch of `patch_size` ({self.patch_size})."
            )
        super()._validate_attention()

    def validate_distillation(self) -> None:
        """Part of `@strict`'s validation."""
        if self.distillation_head and not self.distillation_token:
            raise ValueError("`distillation_head=True` classifies a token that `distillation_token=False` leaves out.")


def pair(size: int | list[int] | tuple[int, ...]) -> tuple[int, ...]:
    """Height and width, of one number for both."""
    return (size, size) if isinstance(size, int) else tuple(size)


@strict
class PrimalDualTextConfig(PrimalDualEncoderConfig):
    r"""
    Configuration of a transformer encoder over tokens, for everyday text and for Long Range Arena.

    The defaults are the paper's model for Long Range Arena over bytes: 2 layers, 2 heads, width 64, FFN 128, mean
    pooling, with ByT5's vocabulary. BERT's architecture is `norm_position="post", embedding_norm=True,
    type_vocab_size=2, pooling="cls", norm_eps=1e-12`.

    Args:
        vocab_size (`int`, *optional*, defaults to 384):
            Number of tokens; 384 is that of ByT5's tokenizer, of bytes.
        max_position_embeddings (`int`, *optional*, defaults to 4096):
            Longest text in tokens; positions are learned.
        pad_token_id (`int`, *optional*, defaults to 0):
            The token that fills shorter texts up.
        type_vocab_size (`int`, *optional*, defaults to 0):
            Number of token types (segments); 0 for none.
        embedding_norm (`bool`, *optional*, defaults to `False`):
            Normalizes the embeddings, as BERT does.
        prepend_cls (`bool`, *optional*, defaults to `False`):
            Puts a learned token in front, for `pooling="cls"` with a tokenizer that has none. It is never pooled.
        pooling (`str`, *optional*, defaults to `"mean"`):
            `"mean"` classifies the average of the tokens, `"cls"` the first one, through BERT's pooler, `"last"` the
            last one.
        is_decoder (`bool`, *optional*, defaults to `False`):
            No token sees those after it, as in a language model, [`PrimalDualTextForCausalLM`]; for softmax, bn, sh,
            bn+sh, and these with a linear kernel.
        use_cache (`bool`, *optional*, defaults to `True`):
            Whether a language model keeps keys and values for the tokens to come.
        tie_word_embeddings (`bool`, *optional*, defaults to `True`):
            Whether a language model's output layer is that of the input embeddings.
        classifier_dropout (`float`, *optional*):
            Dropout of the classifier's input, instead of `hidden_dropout_prob`.

    The other arguments are those of [`PrimalDualEncoderConfig`], with other defaults for some.
    """

    model_type = "primal_dual_text"
    attribute_map = {"layer_norm_eps": "norm_eps"}

    vocab_size: int = 384
    max_position_embeddings: int = 4096
    pad_token_id: int | None = 0
    type_vocab_size: int = 0
    embedding_norm: bool = False
    prepend_cls: bool = False
    pooling: str = "mean"
    classifier_dropout: float | int | None = None
    is_decoder: bool = False
    use_cache: bool = True
    tie_word_embeddings: bool = True
    num_attention_heads: int = 2
    hidden_dropout_prob: float | int = 0.1

    _positive = (*PrimalDualEncoderConfig._positive, "vocab_size", "max_position_embeddings")
    _allowed = {**PrimalDualEncoderConfig._allowed, "pooling": ("mean", "cls", "last")}

    def __post_init__(self, **kwargs: Any) -> None:
        if self.prepend_cls:
            self.num_prefix_tokens = max(self.num_prefix_tokens, 1)
        # Of several classifiers of one configuration transformers picks by these names, and cannot go through None.
        self.architectures = self.architectures or []
        super().__post_init__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        super().__setattr__(name, value)
        # A configuration's fields may be set one by one, by `from_pretrained` too.
        if name == "prepend_cls" and before is not None:
            self.num_prefix_tokens += int(value) - int(before)

    @property
    def num_added_tokens(self) -> int:
        return int(self.prepend_cls)

    def validate_decoder(self) -> None:
        """Part of `@strict`'s validation."""
        if not self.is_decoder:
            return
        _, transforms, training_set = self.choices
        if transforms not in ((), ("bn",)) or "sparse" in training_set:
            raise ValueError(
                f"`attention={self.attention!r}` has no causal form here; with `is_decoder=True` it must be one of "
                "softmax, bn, sh, bn+sh, linear, linear-bn, linear-sh, linear-bn+sh."
            )
        of_encoders = {
            "bn_scaling_learnable": self.bn_scaling_learnable,
            "grid_size": self.grid_size is not None,
            "head_points": self.head_points is not None,
            "norm_type": self.norm_type == "batch",
            "pooling": self.pooling == "cls",
            "prepend_cls": self.prepend_cls,
            "num_prefix_tokens": self.num_prefix_tokens > 0,
            "sampling": self.sampling == "conv",
        }
        if wrong := [name for name, is_wrong in of_encoders.items() if is_wrong]:
            raise ValueError(
                f"`{wrong[0]}={getattr(self, wrong[0])!r}` is for encoders, whose tokens see those after them; set it "
                "back, or `is_decoder=False`."
            )

    def validate_vocabulary(self) -> None:
        """Part of `@strict`'s validation."""
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"`pad_token_id` must be a token of the vocabulary, 0 to {self.vocab_size - 1} (`vocab_size` = "
                f"{self.vocab_size}), or None, got {self.pad_token_id}."
            )
        if self.type_vocab_size < 0:
            raise ValueError(f"`type_vocab_size` must be at least 0, got {self.type_vocab_size}.")


for _config in (PrimalDualTextConfig, PrimalDualTimeSeriesConfig, PrimalDualViTConfig):
    _config.register_for_auto_class()


__all__ = [
    "PrimalDualEncoderConfig",
    "PrimalDualTextConfig",
    "PrimalDualTimeSeriesConfig",
    "PrimalDualViTConfig",
    "RegisteredPipelines",
    "pair",
]
