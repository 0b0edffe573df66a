"""What every configuration of transformers keeps of this package: settings, and which parts run which attention."""

import functools

from transformers.configuration_utils import PreTrainedConfig

# The package's other modules are imported when these functions are called: they may be waiting for this one.


def parts(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    """The configurations of a model's parts, by their names."""
    named = {name: getattr(config, name, None) for name in config.sub_configs}
    return {name: part for name, part in named.items() if isinstance(part, PreTrainedConfig)}


def attentions(config: PreTrainedConfig) -> str | dict | None:
    """
    What `attn_implementation` would have to be for a configuration and its parts to run those of our attentions that
    they run now: a name; a dictionary of parts, itself `""`; or `None` where all run others.
    """
    from .integration.settings import ATTENTIONS

    name = getattr(config, "_attn_implementation", None)
    own = name if name in ATTENTIONS else None
    of_parts = {name: attentions(part) for name, part in parts(config).items()}
    if all(part == own for part in of_parts.values()):
        return own
    return {key: value for key, value in {"": own, **of_parts}.items() if value is not None}


def extend_configurations() -> None:
    """
    Makes `primal_dual` a field of each configuration, so that `from_pretrained(..., primal_dual=...)` takes it, and
    makes the name of one of our attentions part of it.

    transformers reads `attn_implementation` in a config.json, and refuses a name that is not registered. But it never
    writes that key, and takes an `attn_implementation=None`, given or not, for a wish. There is no public way to
    change that, so three methods are wrapped: `to_dict`, through which all of saving, pushing and printing goes;
    `from_dict`, through which all of loading goes; and what sets `_attn_implementation`.
    """
    if hasattr(PreTrainedConfig, "primal_dual"):
        return
    PreTrainedConfig.primal_dual = None
    PreTrainedConfig.to_dict = _naming_to_dict(PreTrainedConfig.to_dict)
    PreTrainedConfig.from_dict = classmethod(_heeding_from_dict(PreTrainedConfig.from_dict.__func__))
    attribute = PreTrainedConfig._attn_implementation

    def set_attention(self, value):
        # Nobody has asked for anything: a whole that is put together of parts leaves them as they are.
        attribute.fset(self, attentions(self) if value is None else value)

    PreTrainedConfig._attn_implementation = attribute.setter(set_attention)


def _naming_to_dict(to_dict):
    @functools.wraps(to_dict)
    def wrapped(self):
        output, names = to_dict(self), attentions(self)
        return output if names is None else {**output, "attn_implementation": names}

    return wrapped


def _heeding_from_dict(from_dict):
    @functools.wraps(from_dict)
    def wrapped(cls, config_dict, **kwargs):
        from .integration.settings import warn_of_idle_settings

        if kwargs.get("attn_implementation") is None:
            kwargs.pop("attn_implementation", None)
        asked = kwargs.get("attn_implementation") or config_dict.get("attn_implementation")
        result = from_dict(cls, config_dict, **kwargs)
        # A whole warns when it is built. A part can't know then what the whole does, but is loaded alone here.
        if not asked and cls.base_config_key:
            warn_of_idle_settings(result[0] if isinstance(result, tuple) else result)
        return result

    return wrapped


__all__ = ["attentions", "extend_configurations", "parts"]
