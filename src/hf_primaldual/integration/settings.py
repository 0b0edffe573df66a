"""The settings that an unmodified model's configuration carries for the attention functions."""

import warnings
from typing import Any, NamedTuple

from transformers.configuration_utils import PreTrainedConfig

from ..configurations import attentions, parts
from ..modeling.configuration_primal_dual import PRESETS, PrimalDualConfig, doubling_scales
from ..modeling.keywords_primal_dual import nearest_to

# The names for `attn_implementation`, and what each is of the paper's.
ATTENTIONS = {
    "primal_dual_bn": PRESETS["bn"],
    "primal_dual_sh": PRESETS["sh"],
    "primal_dual_bn_sh": PRESETS["bn+sh"],
}

# Without "conv": a function has no parameters to learn its filters in.
SAMPLINGS = ("average", "stride", "random")


class Settings(NamedTuple):
    """
    What `config.primal_dual` may hold, a dictionary that is saved in config.json.

    Args:
        bn_beta (`float`): weight of the keys' mean in Attention-BN.
        bn_scaling (`bool` or `float`): whether to divide by the keys' deviation s; a number t between 0 and 1 divides
            by s^t, from recentring only to the full transform.
        bn_eps (`float`): added to the keys' variance.
        head_scales (`list[int]`): factor by which each head's keys and values are downsampled in Attention-SH, on a
            grid of patches in both directions; by default it doubles after every two heads.
        head_points (`int` or `list[int]`): instead of `head_scales`, how many keys each head sees.
        sampling (`str`): how a window of tokens becomes a point, `"average"`, `"stride"` or `"random"`.
        sampling_seed (`int`): draws the tokens of `"random"`.
        prefix_tokens (`int`): how many tokens in front of the others are not downsampled (CLS, distillation,
            registers); by default what is known of the family.
        grid_size (`list[int]`): height and width of the grid of patches; by default that of the configuration's
            `image_size` and `patch_size`. An image of another shape with as many patches can't be told from that.
    """

    bn_beta: float = 1.0
    bn_scaling: bool | float = True
    bn_eps: float = 1e-5
    head_scales: list[int] | None = None
    head_points: int | list[int] | None = None
    sampling: str = "average"
    sampling_seed: int = 0
    prefix_tokens: int | None = None
    grid_size: list[int] | None = None

    def head_groups(self, num_heads: int) -> list[tuple[list[int], dict[str, int]]]:
        """
        The heads that see the same points, and the `scale` or the number of `points` that they have in common.

        Raises:
            ValueError: when the settings are not for that many heads.
        """
        field, name, amounts = "head_scales", "scale", self.head_scales
        if self.head_points is not None:
            field, name, amounts = "head_points", "points", self.head_points
            amounts = [amounts] * num_heads if isinstance(amounts, int) else amounts
        amounts = doubling_scales(num_heads) if amounts is None else amounts
        if len(amounts) != num_heads:
            raise ValueError(
                f"`primal_dual[{field!r}]` must hold one entry for each of the "
                f"{num_heads} heads, got {len(amounts)}: {list(amounts)}."
            )
        return [
            ([head for head, amount in enumerate(amounts) if amount == group], {name: group})
            for group in sorted(set(amounts))
        ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_counts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_count(entry, 1) for entry in value)


# What each setting may be, in words and as a test.
_ALLOWED = {
    "bn_beta": ("a number", _is_number),
    "bn_scaling": (
        "true, false or a number between 0 and 1",
        lambda value: isinstance(value, bool) or (_is_number(value) and 0 <= value <= 1),
    ),
    "bn_eps": ("a positive number", lambda value: _is_number(value) and value > 0),
    "head_scales": (
        "a list of integers of at least 1, one for each head, or null",
        lambda value: value is None or _are_counts(value),
    ),
    "head_points": (
        "an integer of at least 1, a list of them, one for each head, or null",
        lambda value: value is None or _is_count(value, 1) or _are_counts(value),
    ),
    "sampling": (f"one of {', '.join(SAMPLINGS)}", lambda value: value in SAMPLINGS),
    "sampling_seed": ("an integer of at least 0", lambda value: _is_count(value, 0)),
    "prefix_tokens": ("an integer of at least 0 or null", lambda value: value is None or _is_count(value, 0)),
    "grid_size": (
        "the height and width in patches, two integers of at least 1, or null",
        lambda value: value is None or (_are_counts(value) and len(value) == 2),
    ),
}


def check_settings(settings: Any) -> Settings:
    """
    The settings of a dictionary as it stands in a configuration, those that it lacks at their defaults.

    Raises:
        ValueError: for an unknown setting, or one with a value that it can't have.
    """
    if settings is None:
        return Settings()
    if not isinstance(settings, dict):
        raise ValueError(f"`primal_dual` must be a dictionary of settings, got {settings!r}.")
    for name, value in settings.items():
        if name not in _ALLOWED:
            near = nearest_to(str(name), _ALLOWED)
            raise ValueError(
                f"`primal_dual` has no setting {name!r}; it may hold {', '.join(_ALLOWED)}."
                + (f" Did you mean {near!r}?" if near else "")
            )
        words, is_allowed = _ALLOWED[name]
        if not is_allowed(value):
            raise ValueError(f"`primal_dual[{name!r}]` must be {words}, got {value!r}.")
    checked = Settings(**settings)
    if checked.head_scales is not None and checked.head_points is not None:
        raise ValueError(
            f"`primal_dual['head_scales']` ({checked.head_scales}) and `primal_dual['head_points']` "
            f"({checked.head_points}) exclude each other; give one."
        )
    return checked


def _with_parts(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """A configuration and those of the model's parts, of their parts, and so on."""
    configs = [config]
    for one in configs:
        configs += parts(one).values()
    return configs


def warn_of_idle_settings(config: PreTrainedConfig) -> None:
    """Warns of settings that no part of a model will read, as version 0.1.0 saved them."""
    if attentions(config) is None and any(one.primal_dual is not None for one in _with_parts(config)):
        warnings.warn(
            f"The configuration of this {config.model_type!r} model holds settings, `primal_dual`, but names none of "
            "the attentions that they are for, so the model runs another one, without them; pass "
            f"`attn_implementation` as one of {', '.join(ATTENTIONS)}, or as 'sdpa' if that is meant.",
            stacklevel=3,
        )


def _check_reads_settings(config: PreTrainedConfig) -> None:
    if isinstance(config, PrimalDualConfig):
        raise ValueError(
            f"`primal_dual` is for models of transformers; a {type(config).__name__} has fields of its own, such as "
            "`bn_beta` and `head_scales`, from which a model is built."
        )


def inherit_settings(config: PreTrainedConfig) -> None:
    """
    Gives the parts of a model that have no settings those of the whole: a part's attention reads its own.

    Raises:
        ValueError: for an unknown setting, one with a value that it can't have, or a model that would not read them.
    """
    if config.primal_dual is None:
        return
    _check_reads_settings(config)
    check_settings(config.primal_dual)
    for part in _with_parts(config):
        if part.primal_dual is None:
            part.primal_dual = dict(config.primal_dual)


def configure(model, **settings) -> None:
    """
    Writes settings to a model's configuration and to those of its parts, over what they held before.

    Args:
        model (`PreTrainedModel` or `PreTrainedConfig`): what is configured, such as `model.vision_model` of CLIP for
            one part of a model alone.
        settings: fields of [`Settings`]; `None` brings a default back where that is allowed.

    Raises:
        ValueError: for an unknown setting, one with a value that it can't have, or a model that would not read them;
            nothing is changed then.
    """
    configs = _with_parts(model if isinstance(model, PreTrainedConfig) else model.config)
    _check_reads_settings(configs[0])
    merged = [{**(config.primal_dual or {}), **settings} for config in configs]
    for one in merged:
        check_settings(one)
    for config, one in zip(configs, merged, strict=True):
        config.primal_dual = one
