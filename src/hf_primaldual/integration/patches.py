"""
The methods of other people's classes that are wrapped, because there is no public way to

- keep the name of an attention in a checkpoint that is loaded and saved again. transformers reads
  `attn_implementation` in a config.json and refuses a name that is not registered, but it never writes that key, and
  takes an `attn_implementation=None`, given or not, for a wish (three methods of `PreTrainedConfig`);
- refuse a flag that a model would ignore, hand the settings of a model to its parts, and have it read the grid of its
  input, when it is built (`PreTrainedModel.post_init`);
- refuse a flag before a model would look it up elsewhere, and when it is switched, and warn of settings that nobody
  asked an attention for (`PreTrainedModel.get_correct_attn_implementation`);
- warn who saves an adapter whose base would come back with another attention (`PeftModel.save_pretrained`).
"""

import functools
import sys
import warnings

from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from .caches import watch_caches
from .dispatch import check_dispatch, check_not_from_table, check_reads_config, number_layers
from .layouts import watch_inputs
from .settings import ATTENTIONS, attentions, inherit_settings, warn_of_idle_settings


def patch_transformers() -> None:
    """
    Wraps the methods, once, and makes `primal_dual` a field of each configuration, so that
    `from_pretrained(..., primal_dual=...)` takes it.
    """
    if hasattr(PreTrainedConfig, "primal_dual"):
        return
    PreTrainedConfig.primal_dual = None
    PreTrainedConfig.to_dict = _naming(PreTrainedConfig.to_dict)
    PreTrainedConfig.from_dict = classmethod(_heeding(PreTrainedConfig.from_dict.__func__))
    attribute = PreTrainedConfig._attn_implementation
    PreTrainedConfig._attn_implementation = attribute.setter(_keeping(attribute.fset))
    PreTrainedModel.post_init = _checking(PreTrainedModel.post_init)
    chosen = PreTrainedModel.get_correct_attn_implementation
    PreTrainedModel.get_correct_attn_implementation = _warning(chosen)


def _naming(to_dict):
    """Saving, pushing and printing all go through `to_dict`."""

    @functools.wraps(to_dict)
    def wrapped(self):
        output, names = to_dict(self), attentions(self)
        if names is None:
            return output
        # PEFT asks for the configuration before it has anything to save.
        _patch_adapters()
        return {**output, "attn_implementation": names}

    return wrapped


def _heeding(from_dict):
    """Loading goes through `from_dict`: `None` asks for nothing."""

    @functools.wraps(from_dict)
    def wrapped(cls, config_dict, **kwargs):
        if kwargs.get("attn_implementation") is None:
            kwargs.pop("attn_implementation", None)
        asked = kwargs.get("attn_implementation") or config_dict.get("attn_implementation")
        result = from_dict(cls, config_dict, **kwargs)
        # A whole warns when it is built. A part can't know then what the whole does, but is loaded alone here.
        if not asked and cls.base_config_key:
            warn_of_idle_settings(result[0] if isinstance(result, tuple) else result)
        return result

    return wrapped


def _keeping(set_attention):
    """A whole that is put together of parts, for which nobody has asked for anything, leaves them as they are."""

    def wrapped(self, value):
        set_attention(self, attentions(self) if value is None else value)

    return wrapped


def _checking(post_init):
    @functools.wraps(post_init)
    def wrapped(self, *args, **kwargs):
        inherit_settings(self.config)
        name = self.config._attn_implementation
        asked = vars(self.config).get("attn_implementation")
        if isinstance(asked, str) and asked in ATTENTIONS and asked != name:
            raise ValueError(
                f"`config.attn_implementation = {asked!r}` is an attribute that nobody reads: {type(self).__name__} "
                f"would run {name!r}; pass `attn_implementation` to `from_pretrained`, `from_config` or the "
                "configuration's class, or call `hf_primaldual.apply(model, ...)`."
            )
        check_dispatch(self, name)
        _prepare(self)
        return post_init(self, *args, **kwargs)

    return wrapped


def _prepare(model: PreTrainedModel) -> None:
    """What an attention function is not told by its model: the grid of its input, the cache, and the layer's place."""
    watch_inputs(model)
    watch_caches(model)
    number_layers(model)


def _warning(get_correct_attn_implementation):
    @functools.wraps(get_correct_attn_implementation)
    def wrapped(self, requested_attention, is_init_check=False):
        if requested_attention is None and not self.config.base_config_key:
            warn_of_idle_settings(self.config)
        if is_init_check:
            check_not_from_table(self)
        else:
            check_dispatch(self, requested_attention)
            if requested_attention in ATTENTIONS:
                check_reads_config(self)
            _prepare(self)
        return get_correct_attn_implementation(self, requested_attention, is_init_check)

    return wrapped


def _patch_adapters() -> None:
    """An adapter holds nothing of its base's configuration."""
    peft = sys.modules.get("peft.peft_model")
    if peft is not None and not hasattr(peft.PeftModel.save_pretrained, "__wrapped__"):
        peft.PeftModel.save_pretrained = _comparing(peft.PeftModel.save_pretrained)


def _comparing(save_pretrained):
    @functools.wraps(save_pretrained)
    def wrapped(self, *args, **kwargs):
        base = self.get_base_model()
        config = getattr(base, "config", None)
        names = attentions(config) if isinstance(config, PreTrainedConfig) else None
        if names is not None and names != _saved_attentions(base.name_or_path):
            warnings.warn(
                f"The base of this adapter runs {names!r}, which the adapter can't say and its base, "
                f"{base.name_or_path!r}, does not say, so that it would be put on another attention; train on a base "
                "that was saved with its attention and loaded from there, `base.save_pretrained(folder)`, or load the "
                f"base with `attn_implementation={names!r}` wherever the adapter is used.",
                stacklevel=2,
            )
        return save_pretrained(self, *args, **kwargs)

    return wrapped


def _saved_attentions(name_or_path: str) -> str | dict | None:
    """What a checkpoint's config.json says, or `None` where none lies on this machine."""
    try:
        fields, _ = PreTrainedConfig.get_config_dict(name_or_path, local_files_only=True)
    except OSError:
        return None
    return fields.get("attn_implementation")


__all__ = ["patch_transformers"]
