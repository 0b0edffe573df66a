"""Softmax checkpoints of transformers as models of this package, with all of their weights."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ..modeling.configuration_primal_dual_models import pair
from ..modeling.modeling_primal_dual import PrimalDualPreTrainedModel
from ..modeling.modeling_primal_dual_text import PrimalDualTextForSequenceClassification, PrimalDualTextModel
from ..modeling.modeling_primal_dual_vit import (
    PrimalDualViTForImageClassification,
    PrimalDualViTModel,
    interpolate_positions,
)
from .calibration import within_budget

# Fields that both configurations have, under our name.
COMMON_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
)

# Patterns in the names of weights, and what each becomes.
Names = dict[str, str | Callable[[re.Match[str]], str]]

_VIT_NAMES: Names = {
    r"^(vit|deit)\.": "model.",
    r"\.attention\.([qkvo]_proj)\.": r".self_attn.\1.",
    r"\.layernorm_before\.": ".norm1.",
    r"\.layernorm_after\.": ".norm2.",
    r"\blayernorm\.": "norm.",
    r"^cls_classifier\.": "classifier.",
}
_DINOV2_NAMES: Names = {
    r"^dinov2\.": "model.",
    r"\bencoder\.layer\.": "layers.",
    r"\.lambda1$": ".weight",
    # No head of ours fits: to be left out.
    r"^classifier\.": "cls.",
    **_VIT_NAMES,
}
_BERT_NAMES: Names = {
    r"^(bert|roberta)\.": "model.",
    r"^model\.pooler\.": "pooler.",
    r"\.attention\.self\.(query|key|value)\.": lambda match: f".self_attn.{match[1][0]}_proj.",
    r"\.attention\.output\.dense\.": ".self_attn.o_proj.",
    r"\.attention\.output\.LayerNorm\.": ".norm1.",
    r"\.intermediate\.dense\.": ".mlp.fc1.",
    r"\.output\.dense\.": ".mlp.fc2.",
    r"\.output\.LayerNorm\.": ".norm2.",
    r"\bencoder\.layer\.": "layers.",
    r"\bembeddings\.LayerNorm\.": "embeddings.norm.",
    # RoBERTa's head is BERT's pooler and classifier in one module.
    r"^classifier\.dense\.": "pooler.dense.",
    r"^classifier\.out_proj\.": "classifier.",
}


# With these Attention-BN starts as what it is added to.
LEARNED_BN = {"bn_beta": 0.0, "bn_beta_learnable": True, "bn_scaling": 0.0, "bn_scaling_learnable": True}
# What `from_pretrained` is told of a name on the Hub.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class Architecture(NamedTuple):
    """How the models of one `model_type` become ours: the classes, the fields, and the names of the weights."""

    model: type[PrimalDualPreTrainedModel]
    classifier: type[PrimalDualPreTrainedModel]
    fields: Callable[[PreTrainedConfig], dict]
    names: Names


def _vit_fields(config: PreTrainedConfig) -> dict:
    return {
        **{name: getattr(config, name) for name in ("image_size", "patch_size", "num_channels", "qkv_bias")},
        "norm_eps": config.layer_norm_eps,
    }


def _deit_fields(config: PreTrainedConfig) -> dict:
    with_teacher = any("WithTeacher" in name for name in config.architectures or ())
    return {**_vit_fields(config), "distillation_token": True, "distillation_head": with_teacher}


def _dinov2_fields(config: PreTrainedConfig) -> dict:
    return {
        **_vit_fields(config),
        "intermediate_size": int(config.hidden_size * config.mlp_ratio),
        "layer_scale_init_value": config.layerscale_value,
        "drop_path_rate": config.drop_path_rate,
    }


def _bert_fields(config: PreTrainedConfig) -> dict:
    kept = ("vocab_size", "max_position_embeddings", "pad_token_id", "type_vocab_size", "classifier_dropout")
    return {
        **{name: getattr(config, name) for name in kept},
        "norm_eps": config.layer_norm_eps,
        "norm_position": "post",
        "embedding_norm": True,
        "pooling": "cls",
        # Many heads look at CLS where they have nothing to look for.
        "num_prefix_tokens": 1,
    }


def _roberta_fields(config: PreTrainedConfig) -> dict:
    # Its positions are counted from behind the padding token's number.
    positions = config.max_position_embeddings - config.pad_token_id - 1
    return {**_bert_fields(config), "max_position_embeddings": positions}


_VISION = (PrimalDualViTModel, PrimalDualViTForImageClassification)
_TEXT = (PrimalDualTextModel, PrimalDualTextForSequenceClassification)
ARCHITECTURES = {
    "vit": Architecture(*_VISION, _vit_fields, _VIT_NAMES),
    "deit": Architecture(*_VISION, _deit_fields, _VIT_NAMES),
    "dinov2": Architecture(*_VISION, _dinov2_fields, _DINOV2_NAMES),
    "bert": Architecture(*_TEXT, _bert_fields, _BERT_NAMES),
    "roberta": Architecture(*_TEXT, _roberta_fields, _BERT_NAMES),
    "xlm-roberta": Architecture(*_TEXT, _roberta_fields, _BERT_NAMES),
}


def convert(
    model_or_name: PreTrainedModel | str | Path,
    attention: str = "bn+sh",
    *,
    budget: float | None = None,
    calibration: Iterable | None = None,
    **fields: Any,
) -> PrimalDualPreTrainedModel:
    """
    A ViT, DeiT, DINOv2, BERT or RoBERTa with softmax attention as a model of this package, with all of its weights
    (but those of a head or pooler that the new model has no use for).

    What the preset has to learn starts where it changes nothing: Attention-BN with beta and the power of the deviation
    learned for each head from 0, unless one of `bn_beta`, `bn_scaling` and `bn_..._learnable` is given, and filters as
    the identity. So with `"bn"`, and with factors of 1, outputs equal the original's.

    Any other encoder keeps its own class and takes the attention by `attn_implementation="primal_dual_bn_sh"`.

    Args:
        model_or_name (`PreTrainedModel`, `str` or `Path`): the model, or its folder or name on the Hub.
        attention (`str`): the preset.
        budget (`float`, *optional*): chooses `head_scales` by [`calibrate`]: what attention may cost, as a share of
            what it costs now.
        calibration (`Iterable`): with a budget, some dozens of examples without labels: texts (of which 256
            tokens are read), images, or batches as the model takes them.
        fields: other fields of [`PrimalDualViTConfig`] or [`PrimalDualTextConfig`], such as `head_scales`; with
            `num_labels` an encoder gets a new classifier, and to another `image_size` positions are interpolated. For
            a name on the Hub also `revision`, `token`, `cache_dir` and what else `from_pretrained` takes to find it.

    Returns:
        The model in evaluation mode: a classifier where the original was one or `num_labels` is given, else an
        encoder.

    Raises:
        TypeError: for an unknown field.
        ValueError: for a model of another architecture, one with relative positions or cross attention, or weights
            that have no place.
    """
    hub = {name: fields.pop(name) for name in HUB_ARGUMENTS if name in fields}
    if hub and isinstance(model_or_name, PreTrainedModel):
        raise ValueError(f"`{next(iter(hub))}` is for a name on the Hub, but `model_or_name` is a model already.")
    original = (
        model_or_name.config
        if isinstance(model_or_name, PreTrainedModel)
        else AutoConfig.from_pretrained(model_or_name, **hub)
    )
    check_convertible(original)
    architecture = ARCHITECTURES[original.model_type]
    config_class: Any = architecture.model.config_class
    config_class.check_keywords(fields)
    model = model_or_name if isinstance(model_or_name, PreTrainedModel) else load(model_or_name, original, **hub)
    is_classifier, learns_bn = wants_classifier(model, fields), not LEARNED_BN.keys() & fields.keys()
    if budget is not None or calibration is not None:
        # Without a head that the new model does not have.
        kept: Any = model if is_classifier and "num_labels" not in fields else model.base_model
        measured = "bn+sh" if attention == "bn+sh" and not learns_bn else "sh"
        fields |= within_budget(kept, attention, budget, calibration, fields, measured)
    weights = {rename(name, architecture.names): weight for name, weight in model.state_dict().items()}
    labels = {} if "num_labels" in fields else {"id2label": model.config.id2label, "label2id": model.config.label2id}
    config = config_class(
        attention=attention,
        **{
            # DINOv2 has `mlp_ratio` in the place of `intermediate_size`.
            **{name: getattr(model.config, name) for name in COMMON_FIELDS if hasattr(model.config, name)},
            **architecture.fields(model.config),
            **labels,
            "problem_type": model.config.problem_type,
            "attn_implementation": "sdpa",
            **fields,
        },
    )
    if "bn" in config.choices.transforms and learns_bn:
        config.update(LEARNED_BN)
    # Whoever publishes it has to name the original, whose name is unknown here where it is a folder or a model.
    config.converted_from = model.config.model_type
    converted = architecture.classifier if is_classifier else architecture.model
    ours: Any = converted(config)
    ours.to(device=model.device, dtype=config.dtype or model.dtype)
    if "image_size" in fields:
        fit_positions(weights, model.config, config)
    move_weights(weights, ours)
    return ours.eval()


def load(name: str | Path, config: PreTrainedConfig, **hub: Any) -> PreTrainedModel:
    """
    A checkpoint by the class of transformers that its configuration names.

    Raises:
        ValueError: where it names none, or none of transformers.
    """
    architecture = next(iter(config.architectures or ()), None)
    model_class = getattr(transformers, architecture or "", None)
    if model_class is None:
        raise ValueError(
            f"`model_or_name`: config.json of {name} must name a class of transformers in `architectures`, got "
            f"{architecture!r}; load the model by its class, and pass that."
        )
    return model_class.from_pretrained(name, **hub)


def check_convertible(config: PreTrainedConfig) -> None:
    """
    Raises:
        ValueError: for an architecture that can't be converted.
    """
    if config.model_type not in ARCHITECTURES:
        raise ValueError(
            f"`model_or_name` is a {config.model_type!r}, which can't be converted; {', '.join(ARCHITECTURES)} can. "
            "Other encoders take the attention by `attn_implementation='primal_dual_bn_sh'`."
        )
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise ValueError("`model_or_name` is a decoder, but the primal-dual attentions see every token.")
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        raise ValueError(f"`model_or_name` has {positions!r} positions; only learned absolute ones can be converted.")


def wants_classifier(model: PreTrainedModel, fields: dict) -> bool:
    """
    Whether the converted model classifies.

    Raises:
        ValueError: for a head that is neither a classifier of texts or images nor one to do without.
    """
    name = type(model).__name__
    _, _, head = name.partition("For")
    is_classifier = head in ("SequenceClassification", "ImageClassification", "ImageClassificationWithTeacher")
    # DINOv2's is for CLS and the mean of the patches side by side.
    if is_classifier and model.config.model_type != "dinov2":
        return True
    if head not in ("", "MaskedLM", "PreTraining") and "num_labels" not in fields:
        raise ValueError(
            f"`model_or_name` is a {name}, whose head has no counterpart here; pass `num_labels` for a new "
            "classifier, or its encoder, `model.base_model`."
        )
    return "num_labels" in fields


def rename(name: str, names: dict[str, str | Callable]) -> str:
    """The name of a weight in our models."""
    for pattern, replacement in names.items():
        name = re.sub(pattern, replacement, name)
    return name


def fit_positions(weights: dict[str, torch.Tensor], original: PreTrainedConfig, config: PreTrainedConfig) -> None:
    """Interpolates the positions of patches to the grid of `config`, as the model would for each image."""
    grid = [side // patch for side, patch in zip(pair(original.image_size), pair(original.patch_size), strict=True)]
    name = next(name for name in weights if name.endswith("position_embeddings"))
    if grid != config.grid_size:
        weights[name] = interpolate_positions(weights[name], config.num_prefix_tokens, grid, config.grid_size)


def move_weights(weights: dict[str, torch.Tensor], model: nn.Module) -> None:
    """
    Copies weights by their names; what belongs to a head that is not wanted is left out.

    Raises:
        ValueError: for a weight that the model lacks, or of the encoder that is missing, by name.
    """
    own = model.state_dict()
    if not any(name.startswith("model.") for name in own):
        weights = {name.removeprefix("model."): weight for name, weight in weights.items()}
    elif not any(name.startswith("model.") for name in weights):
        # A bare encoder has its pooler beside its layers.
        weights = {name if name.startswith("pooler.") else f"model.{name}": weight for name, weight in weights.items()}
    positions = next(name for name in own if "position_embeddings" in name)
    if positions in weights and weights[positions].ndim == 2:
        # RoBERTa's first positions are never used.
        weights[positions] = weights[positions][-own[positions].shape[0] :]
    heads = ("pooler.", "classifier.", "cls.", "lm_head.", "distillation_classifier.")
    # The mask token is for training by itself.
    unused = re.compile(r"(model\.)?(pooler\.|embeddings\.mask_token$)")
    unknown = [name for name in weights if name not in own and not name.startswith(heads) and not unused.match(name)]
    new = (*heads, "embeddings.prefix", "model.embeddings.prefix")
    missing = [
        name
        for name in own
        if name not in weights and not name.startswith(new) and not re.search(r"transforms|filters|layer_scale", name)
    ]
    if unknown or missing:
        raise ValueError(
            f"`model_or_name` lacks the weights {missing[:5]} and has {unknown[:5]} that have no place; its "
            "architecture is not one that can be converted."
        )
    for name, weight in weights.items():
        if name in own:
            if own[name].shape != weight.shape:
                raise ValueError(
                    f"`model_or_name` has {name!r} of shape {tuple(weight.shape)}, where {tuple(own[name].shape)} "
                    "is wanted."
                )
            own[name].copy_(weight)


__all__ = ["ARCHITECTURES", "convert"]
