"""Which models can run an attention by its name at all."""

import functools
import inspect

from torch import nn
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from .settings import ATTENTIONS


@functools.cache
def dispatches(layer_class: type[nn.Module]) -> bool:
    """
    Whether a layer looks its attention function up in transformers' registry, as its source says.

    transformers' own question, `_can_set_attn_implementation`, is about a whole file, in which one model may dispatch
    and another not (CLAP), or which has no class that the question knows for an attention (ResNet).
    """
    try:
        return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(layer_class.forward)
    except (OSError, TypeError):
        return False


CAUSAL = "is causal, but Attention-BN's statistics and Attention-SH's windows see every token of a sequence"
LOCAL = "has layers of local attention, but the paper's attentions are fitted on every token of a sequence"
CROSS = "attends to other tokens than its own, but a head of the paper's attentions is fitted on its own"


@functools.cache
def obstacle(model_class: type[PreTrainedModel], is_decoder: bool) -> str | None:
    """
    Why the models of a class can't be fitted on all tokens, as the masks in the class's source say. One that asks for
    causal masks and others, as BERT's does, goes by its configuration.
    """
    try:
        source = inspect.getsource(model_class)
    except (OSError, TypeError):
        return None
    if "causal_mask(" in source and (is_decoder or "create_bidirectional" not in source):
        return CAUSAL
    return LOCAL if "bidirectional_sliding_window_mask(" in source else None


def parts_of(model: PreTrainedModel, config: PreTrainedConfig | None = None) -> list[PreTrainedModel]:
    """The models inside of a model, those of one configuration if it is given."""
    inside = [part for part in model.modules() if part is not model and isinstance(part, PreTrainedModel)]
    return [part for part in inside if config is None or part.config is config]


def check_dispatch(model: PreTrainedModel, attn_implementation: str | dict | None) -> None:
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
            for module in parts_of(model, getattr(model.config, part)) if part else ():
                check_dispatch(module, name)
        return
    if attn_implementation not in ATTENTIONS:
        return
    for module in {id(part.config): part for part in (model, *parts_of(model))}.values():
        if not any(dispatches(type(layer)) for layer in module.modules()):
            raise ValueError(
                f"`attn_implementation={attn_implementation!r}` would have no effect on {type(module).__name__}, "
                "whose layers do not dispatch through transformers' AttentionInterface; its attention can't be "
                "replaced by name."
            )


def check_bidirectional(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: for a model with a part that is causal or local, or attends to other tokens than its own.
    """
    for part in (*parts_of(model), model):
        if why := obstacle(type(part), bool(getattr(part.config, "is_decoder", False))):
            _refuse(model, part, why)
    for layer in (layer for layer in model.modules() if dispatches(type(layer))):
        if getattr(layer, "is_causal", False):
            _refuse(model, layer, CAUSAL)
        if getattr(layer, "is_cross_attention", False) or "Cross" in type(layer).__name__:
            _refuse(model, layer, CROSS)


def _refuse(model: PreTrainedModel, part: nn.Module, why: str) -> None:
    has_others = any(other.config is not model.config for other in parts_of(model))
    hint = " Apply it to a part of the model that is an encoder, such as `model.vision_model`." if has_others else ""
    raise ValueError(f"`model`: {type(part).__name__} {why}.{hint}")


__all__ = ["check_bidirectional", "check_dispatch", "dispatches", "parts_of"]
