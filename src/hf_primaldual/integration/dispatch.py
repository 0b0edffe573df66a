"""Which models can run an attention by its name at all."""

import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.configuration_utils import PreTrainedConfig

from .settings import ATTENTIONS, attentions, with_parts


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


@functools.cache
def computes_with_mask(layer_class: type[nn.Module]) -> bool:
    """Whether a layer chooses keys by its mask or adds a bias to it, before it calls its attention function."""
    source = inspect.getsource(layer_class.forward)
    return bool(
        re.search(
            r"\battention_mask(\[|\.(masked_fill|logical_not|reshape)\b)|cat\(\[attention_mask|merged_attention_mask",
            source,
        )
    )


def check_dispatch(model: PreTrainedModel, attn_implementation: str | dict | None) -> None:
    """
    Args:
        model (`PreTrainedModel`): with its layers.
        attn_implementation (`str` or `dict`): as given to `set_attn_implementation`; a dictionary holds the names for
            the model's parts, by their configurations' names.

    Raises:
        ValueError: when one of our names is asked of a model, or of a part, with a layer of self-attention that would
            not look it up, or with none that would, or with one that does more than softmax attention.
    """
    if isinstance(attn_implementation, dict):
        for part, name in attn_implementation.items():
            for module in parts_of(model, getattr(model.config, part)) if part else (model,):
                check_dispatch(module, name)
        return
    if attn_implementation not in ATTENTIONS:
        return
    layer = next(_deaf_layers(model), None)
    # A backbone of convolutions may be a part of a model that has attention elsewhere.
    if layer is None and not isinstance(model, BackboneMixin) and not has_dispatch(model):
        layer = model
    if layer is not None:
        raise ValueError(
            f"`attn_implementation={attn_implementation!r}` would have no effect on {type(layer).__name__}"
            + ("," if layer is model else f" in {type(model).__name__},")
            + " whose layers do not dispatch through transformers' AttentionInterface; its attention can't be "
            "replaced by name."
        )
    for layer in model.modules():
        if dispatches(type(layer)) and computes_with_mask(type(layer)):
            raise ValueError(
                f"`attn_implementation={attn_implementation!r}`: {type(layer).__name__} computes with its mask, "
                "to choose keys or to add a bias, which the paper's attentions do not."
            )
    if ATTENTIONS[attn_implementation] == "sh" and has_dispatch(model) and all_slide(model):
        raise ValueError(
            f"`attn_implementation={attn_implementation!r}` would have no effect on {type(model).__name__}: each of "
            "its layers attends within a window (`sliding_window`), which is left as it is; use 'bn', or "
            "build it with `sliding_window=None`."
        )


def check_reads_config(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: for a layer that has a copy of the model's configuration, in which no name can be switched.
    """
    configs = {id(config) for part in (model, *parts_of(model)) for config in with_parts(part.config)}
    for name, layer in model.named_modules():
        if dispatches(type(layer)) and id(getattr(layer, "config", model.config)) not in configs:
            raise ValueError(
                f"`model`: {name} ({type(layer).__name__}) has a copy of the model's configuration, so that its "
                "attention can't be switched; pass `attn_implementation` where the model is built or loaded."
            )


def number_layers(model: PreTrainedModel) -> None:
    """Tells each layer that dispatches its place among those of its configuration, by which settings may differ."""
    places = Counter()
    for layer in model.modules():
        if dispatches(type(layer)) and hasattr(layer, "config"):
            layer.primal_dual_layer = places[id(layer.config)]
            places[id(layer.config)] += 1


def has_dispatch(module: nn.Module) -> bool:
    """Whether any layer in it looks its attention function up."""
    return any(dispatches(type(layer)) for layer in module.modules())


def _deaf_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The attention layers that look nothing up, but for those that attend to other tokens than their own."""
    for name, child in module.named_children():
        kind = type(child).__name__
        if dispatches(type(child)) or "Pool" in kind or "Cross" in kind or name in ("cross_attn", "encoder_attn"):
            continue
        if re.search(r"Att(entio)?n(Block)?$", kind) and not has_dispatch(child):
            yield child
        else:
            yield from _deaf_layers(child)


@functools.cache
def _from_table(model_class: type[nn.Module]) -> str | None:
    """The first class among those that a model is built from which looks a class up by the attention's name."""
    by_name = re.compile(r"_CLASSES\[\w*\.?_?attn_implementation\]")
    module = sys.modules[model_class.__module__]
    try:
        # Few files have one, and to find the source of a class takes long.
        classes = [model_class] if by_name.search(inspect.getsource(module)) else []
    except (OSError, TypeError):
        return None
    for one in classes:
        source = inspect.getsource(one)
        if by_name.search(source):
            return one.__name__
        named = (getattr(module, name, None) for name in dict.fromkeys(re.findall(r"\b[A-Z]\w+(?=\()", source)))
        layers = (new for new in named if isinstance(new, type) and issubclass(new, nn.Module))
        classes += [new for new in layers if new.__module__ == module.__name__ and new not in classes]
    return None


def check_not_from_table(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: when a model that is about to be built would look one of our names up in a table of classes.
    """
    names = attentions(model.config)
    if names is not None and (layer := _from_table(type(model))):
        raise ValueError(
            f"`attn_implementation={names!r}`: {layer} in {type(model).__name__} takes its attention from a table of "
            "classes, not through transformers' AttentionInterface; it can't be replaced by name."
        )


def is_cross_attention(layer: nn.Module) -> bool:
    """Whether a layer attends to other tokens than its own: in a decoder, one that is not causal."""
    return (
        getattr(layer, "is_cross_attention", False)
        or "Cross" in type(layer).__name__
        or (getattr(layer, "is_decoder", False) and not getattr(layer, "is_causal", True))
    )


def _refusal(layer: nn.Module) -> str | None:
    """Why a layer that dispatches can't run the paper's attentions, if it can't."""
    if is_cross_attention(layer):
        return "attends to other tokens than its own, but a head of the paper's attentions is fitted on its own"
    if getattr(layer, "attn_logit_softcapping", None) is not None:
        return "caps its logits (`attn_logit_softcapping`), which the paper's attentions do not"
    if getattr(layer, "sinks", None) is not None:
        return "has sinks in its softmax, which the paper's attentions have not"
    return None


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers in it that dispatch, by their names."""
    return {name: layer for name, layer in module.named_modules() if dispatches(type(layer))}


def check_layers(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: for a model with a layer that attends to other tokens than its own, or is more than softmax
            attention.
    """
    refused = {name: layer for name, layer in _layers(model).items() if _refusal(layer)}
    if not refused:
        return
    # A part that shares its configuration with such a layer would switch it too.
    shared = {id(getattr(layer, "config", model.config)) for layer in refused.values()}
    able = (
        name
        for name, part in model.named_modules()
        if isinstance(part, PreTrainedModel)
        and id(part.config) not in shared
        and (layers := _layers(part).values())
        and not any(map(_refusal, layers))
        and next(_deaf_layers(part), None) is None
    )
    name, layer = next(iter(refused.items()))
    part = next(able, None)
    hint = f" Apply it to a part of the model that can: `model.{part}`." if part else ""
    raise ValueError(f"`model`: {name} ({type(layer).__name__}) {_refusal(layer)}.{hint}")


@functools.cache
def _reads_window(layer_class: type[nn.Module]) -> bool:
    return "sliding_window" in inspect.getsource(layer_class.forward)


def all_slide(model: PreTrainedModel) -> bool:
    """Whether each layer of a model attends within a window, which Attention-SH leaves as it is."""

    def slides(layer: nn.Module) -> bool:
        if not _reads_window(type(layer)) or not getattr(layer, "is_sliding", True):
            return False
        holder = layer if hasattr(layer, "sliding_window") else getattr(layer, "config", None)
        return getattr(holder, "sliding_window", None) is not None

    return all(map(slides, _layers(model).values()))


__all__ = [
    "all_slide",
    "check_dispatch",
    "check_layers",
    "check_not_from_table",
    "check_reads_config",
    "dispatches",
    "has_dispatch",
    "is_cross_attention",
    "number_layers",
    "parts_of",
]
