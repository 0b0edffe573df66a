"""Attention-BN and Attention-SH as attention functions, of the signature that transformers' models call."""

import math
from collections.abc import Callable

import torch
from torch import nn

from ..modeling.downsampling_primal_dual import downsample, pool_tokens
from ..modeling.head_groups_primal_dual import HeadGroups
from ..modeling.kernels_primal_dual import backend_mask, eager_attention_forward
from ..modeling.keywords_primal_dual import nearest_to
from ..modeling.padding_primal_dual import row_starts, shift_rows
from ..modeling.presets_primal_dual import PRESETS, AttentionChoices
from ..modeling.transforms_primal_dual import fold_batch_norm
from .layouts import packs, token_layout
from .masks import key_mask
from .settings import ATTENTIONS, layer_settings

# What models hand to their attention function that does not change the answer, or that they have dealt with before.
# Whatever else is not None is refused: it may be a bias, a cap, packed lengths, or a user's misspelt argument, which
# many models of transformers pass on unread.
HARMLESS = (
    "cache_position",
    "deterministic",
    "is_causal",
    "layer_idx",
    "num_items_in_batch",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "return_dict",
    "use_cache",
)


def check_self_attention(module: nn.Module, query: torch.Tensor, key: torch.Tensor, kwargs: dict) -> None:
    """
    Raises:
        ValueError: when the layer is causal, attends to other tokens than its own, or is more than softmax attention.
    """
    name = type(module).__name__
    is_causal = kwargs.get("is_causal")
    # As in transformers, the call goes before the module. A module that says nothing depends on its mask alone.
    if getattr(module, "is_causal", False) if is_causal is None else is_causal:
        raise ValueError(
            f"{name} is causal, but Attention-BN's statistics and Attention-SH's windows see every token; causal "
            "models need `attn_implementation='sdpa'`."
        )
    is_cross = getattr(module, "is_cross_attention", False) or "Cross" in name
    if is_cross or query.shape[2] != key.shape[2] or query.shape[0] != key.shape[0]:
        raise ValueError(
            f"{name} attends from {query.shape[2]} tokens to {key.shape[2]} others, but the primal-dual attentions "
            "are self-attentions; cross attention or a cache of keys needs `attn_implementation='sdpa'`."
        )
    for unknown, value in kwargs.items():
        if value is not None and unknown not in HARMLESS:
            near = nearest_to(unknown, (*HARMLESS, "attention_mask", "output_attentions"))
            raise ValueError(
                f"{name} passes `{unknown}` to its attention, which the primal-dual attentions can't honour; "
                + (f"if `{near}` was meant, write that, else " if near else "")
                + "use `attn_implementation='sdpa'`."
            )


def softmax_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
    with_maps: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    By torch's sdpa, or in plain operations where the maps are asked for.

    Args:
        query (`torch.Tensor` of shape `(batch, tokens, heads, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`).
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`, and the maps of shape `(batch, heads, tokens, keys)` or
        `None`.
    """
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))  # (batch, heads, tokens, head_dim)
    if with_maps:
        bias = backend_mask("eager", mask, query, module.config)
        return eager_attention_forward(module, query, key, value, bias, scaling, dropout)
    keep = backend_mask("sdpa", mask, query, module.config)
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=keep, dropout_p=dropout, scale=scaling
    )
    return output.transpose(1, 2), None


def from_first_tokens(
    key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, prefix: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """
    Keys and values, `(batch, tokens, heads, head_dim)`, in the order in which a row padded on the left would have them
    alone, from which windows are counted. Queries may stay where they are.
    """
    # In a text the prefix is a row's own first tokens; a model may also put one in front of a padded row.
    for front in (0, prefix) if prefix else (0,):
        starts = row_starts(mask, front)
        if starts is not None:
            key, value, mask = (shift_rows(states, starts, front) for states in (key, value, mask))
    return key, value, mask


# Layers that have multiplied their queries by the usual scale before they rotate them, and say nothing of it.
SCALED_BEFORE = ("EsmSelfAttention", "EvollaSaProtSelfAttention")


def scale_of_queries(module: nn.Module, head_dim: int) -> float:
    """
    What a layer that passes `scaling=1` has multiplied its queries by, which Attention-BN has to divide out: the keys'
    mean is taken from queries of the keys' scale.

    Raises:
        ValueError: when that is not known.
    """
    usual = head_dim**-0.5
    if type(module).__name__ in SCALED_BEFORE or getattr(module, "scaling", None) == usual:
        return usual
    raise ValueError(
        f"{type(module).__name__} passes `scaling=1`, as a layer does that has scaled its queries before; "
        "Attention-BN would take the keys' mean from queries of another scale: use `primal_dual_sh`, or "
        "`attn_implementation='sdpa'`."
    )


def pool_frames(
    states: torch.Tensor, mask: torch.Tensor | None, prefix: int, frames: int, **how
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As `pool_tokens`, each frame of a video alone."""
    if frames == 1:
        return pool_tokens(states, mask, prefix=prefix, **how)
    each = states[:, prefix:].unflatten(1, (frames, -1)).flatten(0, 1)
    valid = None if mask is None else mask[:, prefix:].unflatten(1, (frames, -1)).flatten(0, 1)
    pooled, kept = downsample(each, valid, **how)
    pooled = torch.cat((states[:, :prefix], pooled.unflatten(0, (-1, frames)).flatten(1, 2)), dim=1)
    if kept is None:
        return pooled, None
    in_front = kept.new_ones(len(states), prefix) if mask is None else mask[:, :prefix]
    return pooled, torch.cat((in_front, kept.unflatten(0, (-1, frames)).flatten(1, 2)), dim=1)


def primal_dual_attention(
    choices: AttentionChoices,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    output_attentions: bool = False,
    primal_dual_grid: tuple[int, ...] | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
    """
    Softmax attention on keys, values and queries of a model's own projections, transformed by batch normalization
    (Definition 1) and downsampled per head (Definition 2) as `choices` says.

    Average pooling commutes with the projections that made keys and values, so they are pooled where they are; in a
    model that rotates its keys by their positions, it is the rotated keys that are pooled and normalized.

    Args:
        choices (`AttentionChoices`): those of one of the registered names.
        module (`nn.Module`): the layer that calls; its `config.primal_dual` holds the settings.
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`): or fewer heads, each for a group of
            neighbouring query heads.
        attention_mask (`torch.Tensor`, *optional*): see `key_mask`.
        scaling (`float`, *optional*): of the logits, by default `1 / sqrt(head_dim)`.
        dropout (`float`): of the maps.
        output_attentions (`bool`): whether to form the maps.
        primal_dual_grid (`tuple[int, ...]`, *optional*): of the patches of the model's input, see `watch_inputs`.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`; and the maps or `None`: one tensor of shape `(batch,
        heads, tokens, keys)` where all heads see as many keys, else a tuple with one of shape `(batch, tokens, keys)`
        for each head.

    Raises:
        ValueError: for settings that are wrong, a mask that is more than padding, a layer that is causal, attends to
            other tokens than its own or has scaled its queries, or a layout of tokens that is not known.
    """
    check_self_attention(module, query, key, kwargs)
    _, heads, _, head_dim = query.shape
    settings = layer_settings(module.config, heads, head_dim)
    mask = key_mask(attention_mask, key)
    if key.shape[1] != heads:
        key, value = (states.repeat_interleave(heads // states.shape[1], dim=1) for states in (key, value))
    scaling = head_dim**-0.5 if scaling is None else scaling
    batch_norm = "bn" in choices.transforms
    if batch_norm and scaling == 1 != head_dim:
        scaling = scale_of_queries(module, head_dim)
        query = query / scaling
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))  # (batch, tokens, heads, head_dim)
    groups, how = HeadGroups([1] * heads), {}
    if choices.training_set == "downsampled":
        groups = HeadGroups(settings.amounts)
        if packs(type(module)):
            raise ValueError(
                f"{type(module).__name__} sees the patches of several images one after another, in an order of their "
                "own, which Attention-SH can't average: use `primal_dual_bn`, or `attn_implementation='sdpa'`."
            )
        prefix, grid_size = token_layout(module.config, key.shape[1], primal_dual_grid)
        frames = 1
        if grid_size is not None:
            *frames, height, width = grid_size
            frames, grid_size = math.prod(frames), (height, width)
        how = {"grid_size": grid_size, "sampling": settings.sampling, "seed": settings.seed}
        if grid_size is None:
            key, value, mask = from_first_tokens(key, value, mask, prefix)
    outputs, maps = [], []
    for amount, *states in zip(groups.amounts, *map(groups.split, (query, key, value)), strict=True):
        queries, keys, values = (each.flatten(2) for each in states)  # (batch, tokens, group_heads * head_dim)
        kept = mask
        if how:
            how[settings.amount_name] = amount
            (keys, kept), (values, _) = (pool_frames(each, mask, prefix, frames, **how) for each in (keys, values))
        if batch_norm:
            queries, keys = fold_batch_norm(queries, keys, kept, *settings.fold)
        states = (each.unflatten(-1, (-1, head_dim)) for each in (queries, keys, values))
        output, weights = softmax_attention(module, *states, kept, scaling, dropout, output_attentions)
        outputs.append(output)  # (batch, tokens, group_heads, head_dim)
        maps.append(weights)  # (batch, group_heads, tokens, keys)
    return groups.join(outputs), groups.collect(maps)


def attention_function(name: str) -> Callable:
    """The attention function of a registered name."""
    choices = PRESETS[ATTENTIONS[name]]

    def attention(module, query, key, value, attention_mask, **kwargs):
        return primal_dual_attention(choices, module, query, key, value, attention_mask, **kwargs)

    attention.__name__ = attention.__qualname__ = name
    return attention


__all__ = ["attention_function", "primal_dual_attention"]
