"""
Makes the attention functions known to transformers. Importing the package does so as soon as `modeling_utils`, where
transformers has its registries, is imported.
"""

import functools
import inspect
import warnings

from transformers.configuration_utils import PreTrainedConfig

from ..configurations import attentions
from .settings import ATTENTIONS, inherit_settings, warn_of_idle_settings


def register() -> None:
    """
    Registers with transformers' `AttentionInterface` and `AttentionMaskInterface`, and lets two methods of
    `PreTrainedModel` refuse a model that would ignore the names: transformers itself says nothing when such a model is
    built, and only warns in `set_attn_implementation`. Where a model is built its parts inherit its settings, too, and
    a third method, which is asked for a default when no attention was asked for, warns of settings without one.
    """
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface, PreTrainedModel

    from .attention import attention_function
    from .masks import padding_mask

    for name in ATTENTIONS:
        AttentionInterface.register(name, attention_function(name))
        AttentionMaskInterface.register(name, padding_mask)
    if not hasattr(PreTrainedModel.post_init, "__wrapped__"):
        PreTrainedModel.post_init = _refusing_post_init(PreTrainedModel.post_init)
        PreTrainedModel.set_attn_implementation = _refusing_set(PreTrainedModel.set_attn_implementation)
        chosen = PreTrainedModel.get_correct_attn_implementation
        PreTrainedModel.get_correct_attn_implementation = _warning_choice(chosen)


def register_with_adapters() -> None:
    """
    Lets PEFT warn who saves an adapter whose base has its attention by the flag alone: an adapter holds nothing of its
    base's configuration, and on the base as it lies in its folder or on the Hub it would run another attention.
    """
    from peft.peft_model import PeftModel

    if not hasattr(PeftModel.save_pretrained, "__wrapped__"):
        PeftModel.save_pretrained = _warning_save(PeftModel.save_pretrained)


def _warning_save(save_pretrained):
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


def _refusing_post_init(post_init):
    @functools.wraps(post_init)
    def wrapped(self, *args, **kwargs):
        inherit_settings(self.config)
        name = self.config._attn_implementation
        asked = vars(self.config).get("attn_implementation")
        if isinstance(asked, str) and asked in ATTENTIONS and asked != name:
            raise ValueError(
                f"`config.attn_implementation = {asked!r}` is an attribute that nobody reads: {type(self).__name__} "
                f"would run {name!r}; pass `attn_implementation` to `from_pretrained`, `from_config` or the "
                "configuration's class, or call `model.set_attn_implementation`."
            )
        check_dispatch(self, name)
        return post_init(self, *args, **kwargs)

    return wrapped


def _refusing_set(set_attn_implementation):
    @functools.wraps(set_attn_implementation)
    def wrapped(self, attn_implementation, *args, **kwargs):
        check_dispatch(self, attn_implementation)
        return set_attn_implementation(self, attn_implementation, *args, **kwargs)

    return wrapped


def _warning_choice(get_correct_attn_implementation):
    @functools.wraps(get_correct_attn_implementation)
    def wrapped(self, requested_attention, *args, **kwargs):
        if requested_attention is None and not self.config.base_config_key:
            warn_of_idle_settings(self.config)
        return get_correct_attn_implementation(self, requested_attention, *args, **kwargs)

    return wrapped


def dispatches(layer) -> bool:
    """
    Whether a layer looks its attention function up in transformers' registry.

    transformers' own question, `_can_set_attn_implementation`, is about a whole file, in which one model may dispatch
    and another not (CLAP), and says no of what has no file.
    """
    code = getattr(inspect.unwrap(type(layer).forward), "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def check_dispatch(model, attn_implementation: str | dict | None) -> None:
    """
    Args:
        model (`PreTrainedModel`): with its layers.
        attn_implementation (`str` or `dict`): as given to `set_attn_implementation`; a dictionary holds the names for
            the model's parts, by their configurations' names.

    Raises:
        ValueError: when one of our names is asked of a model, or of a part with a configuration of its own, none of
            whose layers would look it up.
    """
    if isinstance(attn_implementation, dict):
        check_dispatch(model, attn_implementation.get(""))
        for part, name in attn_implementation.items():
            for module in _parts(model, getattr(model.config, part)) if part else ():
                check_dispatch(module, name)
        return
    if attn_implementation not in ATTENTIONS:
        return
    for module in {id(part.config): part for part in (model, *_parts(model))}.values():
        if not any(dispatches(layer) for layer in module.modules()):
            raise ValueError(
                f"`attn_implementation={attn_implementation!r}` would have no effect on {type(module).__name__}, "
                "whose layers do not dispatch through transformers' AttentionInterface; its attention can't be "
                "replaced by name."
            )


def _parts(model, config: PreTrainedConfig | None = None) -> list:
    """The models inside of a model, those of one configuration if it is given."""
    parts = [part for part in model.modules() if part is not model and hasattr(part, "set_attn_implementation")]
    return [part for part in parts if config is None or part.config is config]


__all__ = ["check_dispatch", "register", "register_with_adapters"]
