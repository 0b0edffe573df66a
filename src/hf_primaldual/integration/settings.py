"""The settings of an attention inside another model: the fields of `PrimalDualConfig`, in `config.primal_dual`."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig

from ..modeling.configuration_primal_dual import PrimalDualConfig
from ..modeling.keywords_primal_dual import nearest_to

# The names for `attn_implementation`, and the preset that each runs.
ATTENTIONS = {"primal_dual_bn": "bn", "primal_dual_sh": "sh", "primal_dual_bn_sh": "bn+sh"}


class Settings(TypedDict, total=False):
    """The fields of `PrimalDualConfig` that a function without weights can honour."""

    bn_beta: float
    bn_scaling: bool | float
    bn_eps: float
    head_scales: Sequence[int] | Sequence[Sequence[int]] | None
    head_points: int | Sequence[int] | None
    sampling: str
    sampling_seed: int
    num_prefix_tokens: int
    grid_size: Sequence[int] | None


SETTINGS = tuple(Settings.__annotations__)
# What version 0.1.0 saved under another name.
_FORMER_NAMES = {"prefix_tokens": "num_prefix_tokens"}


def parts(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    """The configurations of a model's parts, by their names."""
    named = {name: getattr(config, name, None) for name in config.sub_configs}
    return {name: part for name, part in named.items() if isinstance(part, PreTrainedConfig)}


def with_parts(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """A configuration and those of the model's parts, of their parts, and so on."""
    configs = [config]
    for one in configs:
        configs += parts(one).values()
    return configs


def attentions(config: PreTrainedConfig) -> str | dict | None:
    """
    What `attn_implementation` would have to be for a configuration and its parts to run those of our attentions that
    they run now: a name; a dictionary of parts, itself `""`; or `None` where all run others.
    """
    name = getattr(config, "_attn_implementation", None)
    own = name if name in ATTENTIONS else None
    of_parts = {name: attentions(part) for name, part in parts(config).items()}
    if all(part == own for part in of_parts.values()):
        return own
    return {key: value for key, value in {"": own, **of_parts}.items() if value is not None}


def check_settings(settings: Any, attention: str = "bn+sh", heads: int | None = None) -> None:
    """
    Args:
        settings: what `config.primal_dual` holds.
        attention (`str`): the preset; by default one that has a use for all settings, since a model may be switched
            from one to another.
        heads (`int`, *optional*): of a layer, where they are known.

    Raises:
        ValueError: for an unknown setting, one with a value that it can't have, or one that needs weights.
    """
    if heads is None and isinstance(settings, dict):
        lists = (settings.get(name) for name in ("head_scales", "head_points"))
        lists = [value for value in lists if isinstance(value, list | tuple) and value]
        # Of the first layer, where layers differ.
        lists = [value[0] if isinstance(value[0], list | tuple) else value for value in lists]
        heads = next((len(value) for value in lists), None)
    _resolve(_frozen(settings), attention, heads or 1, 1)


class LayerSettings(NamedTuple):
    """What a `PrimalDualConfig` says of a layer of another model: `amounts` are factors, or points, of the heads."""

    amounts: list[int]
    amount_name: str
    sampling: str
    seed: int
    fold: tuple[float, bool | float, float]


def layer_settings(config: PreTrainedConfig, heads: int, head_dim: int, layer: int | None = None) -> LayerSettings:
    """
    The settings of a layer of another model.

    Args:
        config (`PreTrainedConfig`): that of the model, or of its part.
        layer (`int`, *optional*): the layer's place in it, by which settings may differ.

    Raises:
        ValueError: as [`check_settings`] does, and for settings of another number of heads.
    """
    return _resolve(_frozen(config.primal_dual), "bn+sh", heads, head_dim, layer)


def given(config: PreTrainedConfig, name: str) -> Any:
    """A setting that a configuration holds, `None` where it has its default."""
    former = next((old for old, new in _FORMER_NAMES.items() if new == name), name)
    settings = config.primal_dual or {}
    return settings.get(name, settings.get(former))


def _frozen(value: Any) -> Any:
    """As tuples, which can be hashed."""
    if isinstance(value, dict):
        return tuple((name, _frozen(entry)) for name, entry in value.items())
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list | tuple) else value


# A compiled graph takes the answer as it is: the settings that it follows from are among the graph's guards.
@torch.compiler.assume_constant_result
def _resolve(
    settings: tuple | None, attention: str, heads: int, head_dim: int, layer: int | None = None
) -> LayerSettings:
    return _cached(settings, attention, heads, head_dim, layer)


@functools.lru_cache(maxsize=256, typed=True)
def _cached(settings: tuple | None, attention: str, heads: int, head_dim: int, layer: int | None) -> LayerSettings:
    if settings is not None and not (isinstance(settings, tuple) and all(isinstance(e, tuple) for e in settings)):
        shown = list(settings) if isinstance(settings, tuple) else settings
        raise ValueError(f"`primal_dual` must be a dictionary of settings, got {shown!r}.")
    named = {_FORMER_NAMES.get(name, name): value for name, value in settings or () if value is not None}
    for name in named:
        if name not in SETTINGS:
            near = nearest_to(str(name), SETTINGS)
            raise ValueError(
                f"`primal_dual` has no setting {name!r}; it may hold {', '.join(SETTINGS)}."
                + (f" Did you mean {near!r}?" if near else "")
            )
    if named.get("sampling") == "conv":
        raise ValueError(
            "`primal_dual['sampling']` must be one of average, stride, random, got 'conv', whose filters are weights: "
            "use a model of this package."
        )
    try:
        config = PrimalDualConfig(
            attention=attention, hidden_size=heads * head_dim, num_attention_heads=heads, **named
        )
        config = config if layer is None else config.of_layer(layer)
    except (StrictDataclassError, ValueError) as error:
        raise ValueError(f"`primal_dual`: {error.__cause__ or error}") from error
    scales: Any = config.resolved_head_scales()
    return LayerSettings(
        amounts=scales or config.resolved_head_points(),
        amount_name="scale" if scales else "points",
        sampling=config.sampling,
        seed=config.sampling_seed,
        fold=(float(config.bn_beta), config.bn_scaling, config.bn_eps),
    )


def warn_of_idle_settings(config: PreTrainedConfig) -> None:
    """Warns of settings that no part of a model will read, as version 0.1.0 saved them."""
    if attentions(config) is None and any(one.primal_dual is not None for one in with_parts(config)):
        warnings.warn(
            f"The configuration of this {config.model_type!r} model holds settings, `primal_dual`, but names none of "
            "the attentions that they are for, so the model runs another one, without them; pass "
            f"`attn_implementation` as one of {', '.join(ATTENTIONS)}, or as 'sdpa' if that is meant.",
            stacklevel=3,
        )


def check_reads_settings(config: PreTrainedConfig) -> None:
    """
    Raises:
        ValueError: for a configuration of this package.
    """
    if isinstance(config, PrimalDualConfig):
        raise ValueError(
            f"`primal_dual` is for models of transformers; a {type(config).__name__} has fields of its own, such as "
            "`attention`, `bn_beta` and `head_scales`, from which a model is built."
        )


def inherit_settings(config: PreTrainedConfig) -> None:
    """
    Gives the parts of a model that have no settings those of the whole: a part's attention reads its own.

    Raises:
        ValueError: as [`check_settings`] does, or for a model that would not read them.
    """
    if config.primal_dual is None:
        return
    check_reads_settings(config)
    check_settings(config.primal_dual)
    for part in with_parts(config):
        if part.primal_dual is None:
            part.primal_dual = dict(config.primal_dual)


__all__ = [
    "ATTENTIONS",
    "SETTINGS",
    "Settings",
    "attentions",
    "check_reads_settings",
    "check_settings",
    "given",
    "inherit_settings",
    "layer_settings",
    "parts",
    "warn_of_idle_settings",
    "with_parts",
]
