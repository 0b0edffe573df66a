"""The configuration of an attention layer, which the models' configurations extend."""

import copy
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from .keywords_primal_dual import refuse_near_misses, unexpected
from .presets_primal_dual import PRESETS, AttentionChoices, choices_of, name_of
from .validation_primal_dual import check_attention, check_name, check_per_head
from .versions_primal_dual import WAS_MOVED, is_newer, naming_the_version, needs

# What else config.json may hold: transformers writes it, or this package at a conversion.
_BESIDES_FIELDS = (
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "auto_map",
    "converted_from",
    "custom_pipelines",
    "experts_implementation",
    "per_layer_config",
    "quantization_config",
    "transformers_version",
)


def doubling_scales(num_heads: int) -> list[int]:
    """
    Factors of Attention-SH that double after every two heads: `[1, 1, 2, 2, 4, 4, 8, 8]` for 8.

    Two heads get `[1, 2]` and one head `[2]`, so that scaled heads always differ from plain ones.
    """
    if num_heads <= 2:
        return [1, 2][-num_heads:]
    return [2 ** (head // 2) for head in range(num_heads)]


@strict
class PrimalDualConfig(PreTrainedConfig):
    r"""
    What every attention layer of this package needs to know; the models' configurations add to it.

    Args:
        attention (`str`, *optional*, defaults to `"bn+sh"`):
            The preset, by the name that the paper's tables give it: `"softmax"`, `"bn"` (Definition 1), `"sh"`
            (Definition 2), `"bn+sh"`; the same over linear and sparse attention, `"linear"`, `"linear-bn"`,
            `"linear-sh"`, `"linear-bn+sh"`, `"sparse"`, `"sparse-bn"`, `"sparse-sh"`, `"sparse-bn+sh"`; and
            `"conv1d"`, `"conv2d"` (Definition 3), `"conv2d+bn"`. Other chains of transforms are named in the same way,
            `"my_file.Whitening+bn+sh"`.
        kernel, transforms, training_set (`str`, `list[str]`, `str`, *optional*):
            Each replaces that choice of the preset: a kernel of `"softmax"`, `"linear"`; a chain of `"bn"`,
            `"conv1d"`, `"conv2d"` in its order; a training set of `"all"`, `"downsampled"`, `"sparse"`,
            `"sparse+downsampled"`. `attention` becomes the name of what comes of it.
        hidden_size (`int`, *optional*, defaults to 64):
            Width of the tokens, a multiple of `num_attention_heads`.
        num_attention_heads (`int`, *optional*, defaults to 8):
            Number of heads.
        head_scales (`list[int]` or `list[list[int]]`, *optional*):
            Factor by which each head's keys and values are downsampled, for the presets with `sh`; or such a list for
            each layer. By default it doubles after every two heads, `[1, 1, 2, 2, 4, 4, 8, 8]` for 8. A factor longer
            than the sequence leaves one point.
        head_points (`int` or `list[int]`, *optional*):
            Instead of `head_scales`: the number of keys that each head sees, whatever the length; a head with at least
            as many points as there are tokens sees them all. The cost then grows linearly with the length.
        sampling (`str`, *optional*, defaults to `"average"`):
            How a window of tokens becomes one point: the `"average"` of its valid tokens; `"stride"`, its first valid
            token; `"random"`, a valid token drawn by `sampling_seed`; or `"conv"`, a learned convolution with the
            stride of its own length, starting from the average.
        sampling_seed (`int`, *optional*, defaults to 0):
            Draws the tokens of `"random"` sampling, the same in every forward.
        sparse_pattern (`list[str]`, *optional*, defaults to `["local", "strided"]`):
            Which keys a query of the sparse presets sees, the union of: `"local"`, a window around it; `"strided"`,
            every `sparse_stride`-th key from it; `"fixed"`, its block of `sparse_stride` keys and the last key of
            every block. Child et al. (2019) without causality. In a pooled head the reach stays the same in tokens.
        sparse_window (`int`, *optional*, defaults to 256):
            Width of the local window in tokens, half of it on each side.
        sparse_stride (`int`, *optional*, defaults to 128):
            Stride, or length of a block, in tokens.
        feature_map (`str`, *optional*, defaults to `"elu+1"`):
            The map Phi of the linear kernel, or the name of one of transformers' activations without negative values.
        conv_kernel_size (`int`, *optional*, defaults to 3):
            Length or side of the filters of Conv1D and Conv2D, odd.
        conv2d_reading (`str`, *optional*, defaults to `"vector"`):
            What Conv2D convolves: each head's `"vector"` as a two-dimensional map, or the `"grid"` of patches.
        grid_size (`list[int]`, *optional*):
            Height and width of the grid of patches that the tokens of an image form. A factor of `head_scales` then
            pools windows of r x r patches, and `head_points` are rectangles of them, as square as they can be.
        num_prefix_tokens (`int`, *optional*, defaults to 0):
            Tokens before the sequence or the grid (CLS), which are kept apart: no window pools them, and a grid's
            convolution passes them.
        bn_beta (`float`, *optional*, defaults to 1.0):
            Weight of the keys' mean in Attention-BN. Its value per task is not known to us from the paper.
        bn_beta_learnable (`bool`, *optional*, defaults to `False`):
            Learns one beta per head, starting from `bn_beta`.
        bn_scaling (`bool` or `float`, *optional*, defaults to `True`):
            Divides by the keys' standard deviation. With `False` Attention-BN only recentres. A number from 0 to 1 is
            the power of the deviation that is divided by, for what lies between the two.
        bn_scaling_learnable (`bool`, *optional*, defaults to `False`):
            Learns that power, one for each head, starting from `bn_scaling`. With beta and power learned from 0
            Attention-BN starts as what it is added to.
        bn_eps (`float`, *optional*, defaults to 1e-5):
            Added to the keys' variance.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout of the attention maps.
        qkv_bias (`bool`, *optional*, defaults to `True`):
            Whether the query, key and value projections have a bias.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the initial weights.
        hf_primaldual_version (`str`, *optional*):
            The version of this package that saved the checkpoint; set when a model is saved. An older package that
            does not know what is asked for then names the version to install.

    Raises:
        StrictDataclassClassValidationError: when fields contradict each other; a `ValueError` says which and why.
    """

    model_type = "primal_dual"

    attention: str = "bn+sh"
    kernel: str | None = None
    transforms: list[str] | tuple[str, ...] | None = None
    training_set: str | None = None
    hidden_size: int = 64
    num_attention_heads: int = 8
    head_scales: list[int] | tuple[int, ...] | list[list[int]] | tuple[tuple[int, ...], ...] | None = None
    head_points: int | list[int] | tuple[int, ...] | None = None
    sampling: str = "average"
    sampling_seed: int = 0
    sparse_pattern: list[str] | tuple[str, ...] = ("local", "strided")
    sparse_window: int = 256
    sparse_stride: int = 128
    feature_map: str = "elu+1"
    conv_kernel_size: int = 3
    conv2d_reading: str = "vector"
    grid_size: list[int] | tuple[int, ...] | None = None
    num_prefix_tokens: int = 0
    bn_beta: float | int = 1.0
    bn_beta_learnable: bool = False
    bn_scaling: bool | float | int = True
    bn_scaling_learnable: bool = False
    bn_eps: float = 1e-5
    attention_probs_dropout_prob: float | int = 0.0
    qkv_bias: bool = True
    initializer_range: float = 0.02
    hf_primaldual_version: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.check_keywords(kwargs)
        super().__post_init__(**kwargs)
        self.name_attention()

    def name_attention(self) -> None:
        """Makes `attention` say what the model is, where `kernel`, `transforms` or `training_set` replace its own."""
        if choices_of(self.attention) is not None:
            self.attention = name_of(self.choices) or self.attention

    @classmethod
    def check_keywords(cls, names: Iterable[str]) -> None:
        """
        Raises:
            TypeError: for a name that is no field, with the nearest one that is.
        """
        for name in names:
            if not cls._knows(name):
                raise TypeError(f"{cls.__name__} got {unexpected(name, cls._names())}")

    @classmethod
    def _knows(cls, name: str) -> bool:
        """Whether a name is a field, a property, or another name for one of them, of this class or of transformers."""
        return name in _BESIDES_FIELDS or name in cls.attribute_map or hasattr(cls, name) or name in cls._names()

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    def attention_fields(self) -> dict[str, Any]:
        """The fields that decide what an attention layer answers."""
        others = ("attention_probs_dropout_prob", "hf_primaldual_version", "initializer_range")
        names = (name for name in PrimalDualConfig.__annotations__ if name not in others)
        return {name: copy.copy(getattr(self, name)) for name in names}

    @property
    def choices(self) -> AttentionChoices:
        """The kernel, the transforms and the training set: the preset's, where no field replaces them."""
        preset = choices_of(self.attention)
        if preset is None:
            check_name("attention", self.attention, PRESETS)
        return AttentionChoices(
            preset.kernel if self.kernel is None else self.kernel,
            preset.transforms if self.transforms is None else tuple(self.transforms),
            preset.training_set if self.training_set is None else self.training_set,
        )

    @property
    def num_added_tokens(self) -> int:
        """How many of the `num_prefix_tokens` a model puts in front itself, before the padding of a row too."""
        return self.num_prefix_tokens

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        # transformers' own validation asks for it before ours refuses a number of heads below one.
        return self.hidden_size // max(self.num_attention_heads, 1)

    def resolved_head_scales(self) -> list[int] | list[list[int]] | None:
        """One factor per head, for each layer where they differ; `None` where heads have numbers of points instead."""
        if self.head_points is not None:
            return None
        if self.head_scales is None:
            return doubling_scales(self.num_attention_heads)
        if not self._differs_by_layer:
            return check_per_head("head_scales", self.head_scales, self.num_attention_heads)
        layers = getattr(self, "num_hidden_layers", None)
        if layers not in (None, len(self.head_scales)):
            raise ValueError(
                f"`head_scales` must hold one list for each of the {layers} layers, or one for all, got "
                f"{len(self.head_scales)} lists."
            )
        return [
            check_per_head(f"head_scales[{place}]", scales, self.num_attention_heads)
            for place, scales in enumerate(self.head_scales)
        ]

    @property
    def _differs_by_layer(self) -> bool:
        return self.head_scales is not None and any(isinstance(each, list | tuple) for each in self.head_scales)

    def of_layer(self, layer_idx: int | None) -> "PrimalDualConfig":
        """
        The configuration with the factors of one layer, where layers differ.

        Raises:
            ValueError: for a layer that is none of them.
        """
        if not self._differs_by_layer:
            return self
        if layer_idx is None or not 0 <= layer_idx < len(self.head_scales):
            raise ValueError(
                f"`head_scales` holds lists for {len(self.head_scales)} layers, of which a layer with `layer_idx` "
                f"{layer_idx} has none."
            )
        own = copy.copy(self)
        own_scales: Any = self.head_scales[layer_idx]
        own.head_scales = list(own_scales)
        return own

    def resolved_head_points(self) -> list[int] | None:
        """One number of points per head, or `None` where the heads have a factor instead."""
        if self.head_points is None:
            return None
        heads = self.num_attention_heads
        points = [self.head_points] * heads if isinstance(self.head_points, int) else self.head_points
        return check_per_head("head_points", points, heads)

    def validate_attention(self) -> None:
        """Part of `@strict`'s validation, and repeated by every layer: fields may have been set one by one since."""
        with naming_the_version(self.hf_primaldual_version):
            self._validate_attention()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """
        What a config.json holds that is no field here stays an attribute, as other programs write their own into it.

        Raises:
            TypeError: for a keyword or an entry of config.json that is nearly a field.
            ValueError: for an entry that only a newer version of the package knows, which saved it; and for a
                checkpoint that an early one saved on its way from softmax to its attention.
        """
        if config_dict.get("annealed"):
            raise ValueError(f"config.json has `annealed: true`: {WAS_MOVED}")
        config_dict = {name: value for name, value in config_dict.items() if name != "annealed"}
        saved = config_dict.get("hf_primaldual_version")
        foreign = {name: value for name, value in config_dict.items() if not cls._knows(name)}
        if foreign and is_newer(saved):
            raise ValueError(f"config.json holds {', '.join(foreign)}, which are not known here. {needs(saved)}")
        refuse_near_misses(cls, (*foreign, *kwargs), cls._knows, cls._names())
        config_dict = {name: value for name, value in config_dict.items() if name not in foreign}
        return_unused = kwargs.pop("return_unused_kwargs", False)
        config, unused = super().from_dict(config_dict, return_unused_kwargs=True, **kwargs)
        for name, value in foreign.items():
            setattr(config, name, value)
        config.name_attention()
        return (config, unused) if return_unused else config

    def check_names(self) -> None:
        """
        Raises:
            TypeError: for an attribute that is nearly a field, with which `from_dict` would refuse what is saved.
        """
        refuse_near_misses(type(self), self.to_dict(), self._knows, self._names())

    def _validate_attention(self) -> None:
        check_attention(self)


__all__ = ["PrimalDualConfig", "doubling_scales"]
