"""One call that puts an attention of the paper into a model of transformers."""

import copy
import warnings
from collections.abc import Iterable
from typing import Any, TypeVar, Unpack

from transformers import PreTrainedConfig, PreTrainedModel

from ..modeling.presets_primal_dual import PRESETS
from .dispatch import all_slide, check_dispatch, check_layers, check_reads_config, has_dispatch, parts_of
from .settings import ATTENTIONS, Settings, check_reads_settings, check_settings, parts, with_parts

Model = TypeVar("Model", bound=PreTrainedModel)


def apply(
    model: Model,
    attention: str = "bn+sh",
    *,
    budget: float | None = None,
    calibration: Iterable | None = None,
    **settings: Unpack[Settings],
) -> Model:
    """
    Replaces the softmax attention of a model, and of its parts, by one of the paper's. Nothing is trained: the weights
    stay, and `apply(model, "softmax")` brings the model back.

    Attention and settings are part of the model's configuration (`config.primal_dual`): they are saved with it and
    come back with `from_pretrained` wherever this package is imported.

    Args:
        model (`PreTrainedModel`): an encoder, a decoder without cross attention, or a part of a model that is one and
            has a configuration of its own, such as `model.vision_model`.
        attention (`str`, *optional*, defaults to `"bn+sh"`): `"bn"` (Definition 1), `"sh"` (Definition 2), `"bn+sh"`,
            or `"softmax"`.
        budget (`float`, *optional*): chooses `head_scales` by [`calibrate`]: what attention may cost, as a share of
            what it costs now.
        calibration (`Iterable`): with a budget, some dozens of examples without labels: texts (of which 256
            tokens are read), images, or batches as the model takes them.
        settings: fields of [`PrimalDualConfig`] that need no weights: `bn_beta`, `bn_scaling`, `bn_eps`,
            `head_scales` (or such a list for each layer), `head_points`, `sampling`, `sampling_seed`, and where they
            are not known of the family `num_prefix_tokens` and `grid_size`. Those not given have their defaults.

    Returns:
        The model.

    Raises:
        ValueError: for an unknown attention or setting, one with a value that it can't have, or a model that can't
            run it: one that has cross attention, sinks or capped logits, or is of this package; or whose layers do
            not dispatch through transformers' `AttentionInterface`. Nothing is changed then.
    """
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"`model` must be a model of transformers, got {type(model).__name__}; of one that is wrapped pass the "
            "model inside."
        )
    names = {preset: name for name, preset in ATTENTIONS.items()} | {"softmax": _softmax(model)}
    if attention not in names:
        more = " Other presets need weights of their own: use a model of this package." if attention in PRESETS else ""
        raise ValueError(f"`attention` must be one of {', '.join(names)}, got {attention!r}.{more}")
    check_reads_settings(model.config)
    if attention == "softmax":
        if settings:
            raise ValueError(f"`{next(iter(settings))}` is no setting of softmax attention, which has none.")
    else:
        check_dispatch(model, names[attention])
        check_layers(model)
        check_reads_config(model)
        every: list[PreTrainedModel] = [model, *parts_of(model)]
        for part in every:
            # transformers would only warn, and leave the model as it is.
            if has_dispatch(part) and not part._can_set_attn_implementation():
                raise ValueError(
                    f"`model`: transformers finds no file of {type(part).__name__} whose attention dispatches by "
                    "name; define the class in a file, or apply this to the encoder inside."
                )
            # Swin has another number of heads at each stage, others at each layer.
            is_one = not getattr(part.config, "is_heterogeneous", False)
            heads = getattr(part.config, "num_attention_heads", None) if is_one else None
            check_settings(settings, attention, heads if isinstance(heads, int) else None)
        if attention == "bn+sh" and all_slide(model):
            warnings.warn(
                f"Each layer of {type(model).__name__} attends within a window (`sliding_window`), which 'sh' leaves "
                "as it is, so that 'bn+sh' is 'bn' here.",
                stacklevel=2,
            )
    chosen: dict[str, Any] = dict(settings)
    if budget is not None or calibration is not None:
        from .calibration import within_budget

        chosen |= within_budget(model, attention, budget, calibration, settings, measured=attention)
    model.set_attn_implementation(names[attention])
    for config in with_parts(model.config):
        config.primal_dual = copy.deepcopy(chosen) or None
    return model


def _softmax(model: PreTrainedModel) -> str | dict:
    """sdpa, but for the parts that transformers does not give it to, such as those that may cap their logits."""
    without = {id(part.config) for part in (model, *parts_of(model)) if not part._supports_sdpa}

    def names(config: PreTrainedConfig) -> Any:
        own = "eager" if id(config) in without else "sdpa"
        return {"": own} | {name: names(part) for name, part in parts(config).items()}

    return names(model.config) if without else "sdpa"


__all__ = ["apply"]
