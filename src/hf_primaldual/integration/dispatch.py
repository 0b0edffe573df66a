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


def is_cross_attention(layer: nn.Module) -> bool:
    """Whether a layer attends to other tokens than its own: in a decoder, one that is not causal."""
    return (
        getattr(layer, "is_cross_attention", False)
        or "Cross" in type(layer).__name__
        or (getattr(layer, "is_decoder", False) and not getattr(layer, "is_causal", True))
    )


def check_layers(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: for a model with a layer that attends to other tokens than its own, or is more than softmax
            attention.
    """
    for name, layer in ((name, layer) for name, layer in model.named_modules() if dispatches(type(layer))):
        why = None
        if is_cross_attention(layer):
            why = "attends to other tokens than its own, but a head of the paper's attentions is fitted on its own"
        elif getattr(layer, "attn_logit_softcapping", None) is not None:
            why = "caps its logits (`attn_logit_softcapping`), which the paper's attentions do not"
        elif getattr(layer, "sinks", None) is not None:
            why = "has sinks in its softmax, which the paper's attentions have not"
        if why is not None:
            has_others = any(other.config is not model.config for other in parts_of(model))
            hint = " Apply it to a part of the model that can, such as `model.vision_model`." if has_others else ""
            raise ValueError(f"`model`: {name} ({type(layer).__name__}) {why}.{hint}")


__all__ = ["check_dispatch", "check_layers", "dispatches", "is_cross_attention", "parts_of"]
