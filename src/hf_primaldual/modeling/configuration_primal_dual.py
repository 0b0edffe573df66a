"""The three choices that make an attention, the paper's presets of them, and the configurations of the models."""

from typing import NamedTuple

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig


class AttentionChoices(NamedTuple):
    """An attention as the paper derives it: a kernel, the transforms T of queries and keys, and a training set."""

    kernel: str
    transforms: tuple[str, ...]
    training_set: str


PRESETS = {
    "softmax": AttentionChoices("softmax", (), "all"),
    "bn": AttentionChoices("softmax", ("bn",), "all"),
    "sh": AttentionChoices("softmax", (), "downsampled"),
    "bn+sh": AttentionChoices("softmax", ("bn",), "downsampled"),
}

SAMPLINGS = ("average", "stride")


def doubling_scales(num_heads: int) -> list[int]:
    """
    Factors of Attention-SH that double after every two heads: `[1, 1, 2, 2, 4, 4, 8, 8]` for 8.

    Two heads get `[1, 2]` and one head `[2]`, so that scaled heads always differ from plain ones.
    """
    if num_heads <= 2:
        return [1, 2][-num_heads:]
    return [2 ** (head // 2) for head in range(num_heads)]


def _check_per_head(name: str, values: list[int] | tuple[int, ...], num_heads: int) -> list[int]:
    if len(values) != num_heads:
        raise ValueError(
            f"`{name}` must hold one entry for each of the {num_heads} heads, got {len(values)}: {list(values)}."
        )
    if any(value < 1 for value in values):
        raise ValueError(f"`{name}` must hold integers of at least 1, got {list(values)}.")
    return list(values)


@strict
class PrimalDualConfig(PreTrainedConfig):
    r"""
    What every attention layer of this package needs to know; the models' configurations add to it.

    Args:
        attention (`str`, *optional*, defaults to `"bn+sh"`):
            The preset, by the name that the paper's tables give it: `"softmax"`, `"bn"` (Definition 1), `"sh"`
            (Definition 2) or `"bn+sh"`.
        hidden_size (`int`, *optional*, defaults to 64):
            Width of the tokens, a multiple of `num_attention_heads`.
        num_attention_heads (`int`, *optional*, defaults to 8):
            Number of heads.
        head_scales (`list[int]`, *optional*):
            Factor by which each head's keys and values are downsampled, for the presets with `sh`. By default it
            doubles after every two heads, `[1, 1, 2, 2, 4, 4, 8, 8]` for 8. A factor longer than the sequence leaves
            one point.
        head_points (`int` or `list[int]`, *optional*):
            Instead of `head_scales`: the number of keys that each head sees, whatever the length; a head with at least
            as many points as there are tokens sees them all. The cost then grows linearly with the length.
        sampling (`str`, *optional*, defaults to `"average"`):
            How a window of tokens becomes one point: `"average"` of its valid tokens, or `"stride"`, its first valid
            token.
        bn_beta (`float`, *optional*, defaults to 1.0):
            Weight of the keys' mean in Attention-BN. Its value per task is not known to us from the paper.
        bn_beta_learnable (`bool`, *optional*, defaults to `False`):
            Learns one beta per head, starting from `bn_beta`.
        bn_scaling (`bool`, *optional*, defaults to `True`):
            Divides by the keys' standard deviation. With `False` Attention-BN only recentres.
        bn_eps (`float`, *optional*, defaults to 1e-5):
            Added to the keys' variance.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout of the attention maps.
        qkv_bias (`bool`, *optional*, defaults to `True`):
            Whether the query, key and value projections have a bias.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the initial weights.

    Raises:
        StrictDataclassClassValidationError: when fields contradict each other; a `ValueError` says which and why.
    """

    model_type = "primal_dual"

    attention: str = "bn+sh"
    hidden_size: int = 64
    num_attention_heads: int = 8
    head_scales: list[int] | tuple[int, ...] | None = None
    head_points: int | list[int] | tuple[int, ...] | None = None
    sampling: str = "average"
    bn_beta: float | int = 1.0
    bn_beta_learnable: bool = False
    bn_scaling: bool = True
    bn_eps: float = 1e-5
    attention_probs_dropout_prob: float | int = 0.0
    qkv_bias: bool = True
    initializer_range: float = 0.02

    @property
    def choices(self) -> AttentionChoices:
        """The kernel, the transforms and the training set that `attention` stands for."""
        if self.attention not in PRESETS:
            raise ValueError(f"`attention` must be one of {', '.join(PRESETS)}, got {self.attention!r}.")
        return PRESETS[self.attention]

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        # transformers' own validation asks for it before ours refuses a number of heads below one.
        return self.hidden_size // max(self.num_attention_heads, 1)

    def resolved_head_scales(self) -> list[int] | None:
        """One factor per head, or `None` where the heads have a number of points instead."""
        if self.head_points is not None:
            return None
        if self.head_scales is None:
            return doubling_scales(self.num_attention_heads)
        return _check_per_head("head_scales", self.head_scales, self.num_attention_heads)

    def resolved_head_points(self) -> list[int] | None:
        """One number of points per head, or `None` where the heads have a factor instead."""
        if self.head_points is None:
            return None
        heads = self.num_attention_heads
        points = [self.head_points] * heads if isinstance(self.head_points, int) else self.head_points
        return _check_per_head("head_points", points, heads)

    def validate_attention(self):
        """Part of `@strict`'s validation, and repeated by every layer: fields may have been set one by one since."""
        if self.hidden_size < 1 or self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a positive multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )
        if self.choices.training_set != "downsampled":
            for name in ("head_scales", "head_points"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"`{name}` is for the presets with sh; `attention={self.attention!r}` downsamples no keys, "
                        f"got {getattr(self, name)}."
                    )
        if self.head_scales is not None and self.head_points is not None:
            raise ValueError(
                f"`head_scales` ({self.head_scales}) and `head_points` ({self.head_points}) exclude each other; "
                "give one."
            )
        self.resolved_head_scales()
        self.resolved_head_points()
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"`sampling` must be one of {', '.join(SAMPLINGS)}, got {self.sampling!r}.")
        if self.bn_eps <= 0:
            raise ValueError(f"`bn_eps` must be positive, got {self.bn_eps}.")


@strict
class PrimalDualTimeSeriesConfig(PrimalDualConfig):
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
        num_hidden_layers (`int`, *optional*, defaults to 3):
            Number of layers.
        intermediate_size (`int`, *optional*, defaults to 256):
            Width inside the feed-forward blocks.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of the feed-forward blocks and before a flattened head.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout of embeddings, sublayers and the classifier's input.
        norm_type (`str`, *optional*, defaults to `"batch"`):
            `"batch"`, over the real tokens of the batch with running averages, or `"layer"`.
        norm_position (`str`, *optional*, defaults to `"post"`):
            `"post"`, after the residual sum, or `"pre"`, before the sublayer.
        norm_eps (`float`, *optional*, defaults to 1e-5):
            Added to the variances of these norms.
        pooling (`str`, *optional*, defaults to `"flatten"`):
            `"flatten"` classifies all steps side by side, up to `max_position_embeddings`; `"mean"` their average.

    The other arguments are those of [`PrimalDualConfig`].
    """

    model_type = "primal_dual_time_series"

    num_channels: int = 1
    max_position_embeddings: int = 512
    num_hidden_layers: int = 3
    intermediate_size: int = 256
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    norm_type: str = "batch"
    norm_position: str = "post"
    norm_eps: float = 1e-5
    pooling: str = "flatten"

    def __post_init__(self, **kwargs):
        # Lets `pipeline(model=folder, trust_remote_code=True)` find the pipeline that travels with the checkpoint.
        kwargs.setdefault(
            "custom_pipelines",
            {
                "time-series-classification": {
                    "impl": "pipeline_primal_dual.TimeSeriesClassificationPipeline",
                    "pt": ["AutoModelForSequenceClassification"],
                    "type": "multimodal",
                }
            },
        )
        super().__post_init__(**kwargs)

    def validate_encoder(self):
        """Part of `@strict`'s validation."""
        for name in ("num_channels", "max_position_embeddings", "num_hidden_layers", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name, allowed in (
            ("norm_type", ("batch", "layer")),
            ("norm_position", ("post", "pre")),
            ("pooling", ("flatten", "mean")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")


PrimalDualTimeSeriesConfig.register_for_auto_class()


__all__ = ["PRESETS", "AttentionChoices", "PrimalDualConfig", "PrimalDualTimeSeriesConfig", "doubling_scales"]
