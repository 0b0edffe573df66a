"""Attention-BN and Attention-SH as attention functions, of the signature that transformers' models call."""

from collections.abc import Callable

import torch
from torch import nn

from ..modeling.configuration_primal_dual import AttentionChoices
from ..modeling.downsampling_primal_dual import pool_tokens
from ..modeling.keywords_primal_dual import nearest_to
from ..modeling.padding_primal_dual import row_starts, shift_rows
from ..modeling.transforms_primal_dual import fold_batch_norm, without_autocast
from .layouts import token_layout
from .masks import key_mask
from .settings import ATTENTIONS, Settings, check_settings

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


def _side_by_side(states: torch.Tensor) -> torch.Tensor:
    """`(batch, heads, tokens, head_dim)` as `(batch, tokens, channels)`: a view of what a projection gave."""
    return states.transpose(1, 2).flatten(2)


def _split(states: torch.Tensor, heads: int) -> torch.Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def softmax_attention(
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
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, heads, keys, head_dim)`).
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`, and the maps of shape `(batch, heads, tokens, keys)` or
        `None`.
    """
    # Not by the kernels' own functions: they import transformers.modeling_utils, whose import registers this module.
    if not with_maps:
        keep = None if mask is None else mask[:, None, None, :].expand(-1, -1, query.shape[2], -1)
        output = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=keep, dropout_p=dropout, scale=scaling
        )
        return output.transpose(1, 2), None
    # As in a fused kernel the logits are at least float32: those of float16 would overflow.
    dtype = torch.promote_types(query.dtype, torch.float32)
    with without_autocast(query.device):
        logits = query.to(dtype) * scaling @ key.to(dtype).transpose(2, 3)
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None, :], torch.finfo(dtype).min)
    maps = nn.functional.softmax(logits, dim=-1).to(value.dtype)
    return (nn.functional.dropout(maps, p=dropout) @ value).transpose(1, 2), maps


def _fold(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, settings: Settings):
    heads = query.shape[1]
    folded = fold_batch_norm(
        _side_by_side(query),
        _side_by_side(key),
        mask,
        float(settings.bn_beta),
        settings.bn_scaling,
        settings.bn_eps,
    )
    return tuple(_split(states, heads) for states in folded)


def _from_first_tokens(
    key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, prefix: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """
    Keys and values in the order in which a row padded on the left would have them alone, from which windows are
    counted. Queries may stay where they are.
    """
    # In a text the prefix is a row's own first tokens; a model may also put one in front of a padded row.
    for front in (0, prefix) if prefix else (0,):
        starts = row_starts(mask, front)
        if starts is not None:
            key, value = (shift_rows(states.transpose(1, 2), starts, front).transpose(1, 2) for states in (key, value))
            mask = shift_rows(mask, starts, front)
    return key, value, mask


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

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`; and the maps or `None`: one tensor of shape `(batch,
        heads, tokens, keys)` where all heads see as many keys, else a tuple with one of shape `(batch, tokens, keys)`
        for each head.

    Raises:
        ValueError: for settings that are wrong, a mask that is more than padding, a layer that is causal, attends to
            other tokens than its own or has scaled its queries, or a layout of tokens that is not known.
    """
    check_self_attention(module, query, key, kwargs)
    settings = check_settings(module.config.primal_dual)
    mask = key_mask(attention_mask, key)
    heads = query.shape[1]
    if key.shape[1] != heads:
        key, value = (states.repeat_interleave(heads // states.shape[1], dim=1) for states in (key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    batch_norm = "bn" in choices.transforms
    if batch_norm and scaling == 1 != query.shape[-1]:
        raise ValueError(
            f"{type(module).__name__} passes `scaling=1`, as a layer does that has scaled its queries before; "
            "Attention-BN would take the keys' mean from queries of another scale: use `primal_dual_sh`, or "
            "`attn_implementation='sdpa'`."
        )
    if choices.training_set == "all":
        if batch_norm:
            query, key = _fold(query, key, mask, settings)
        return softmax_attention(query, key, value, mask, scaling, dropout, output_attentions)

    prefix, grid_size = token_layout(module.config, key.shape[2], settings)
    how = {"grid_size": grid_size, "sampling": settings.sampling, "seed": settings.sampling_seed, "prefix": prefix}
    if grid_size is None:
        key, value, mask = _from_first_tokens(key, value, mask, prefix)
    groups = settings.head_groups(heads)
    outputs, maps = [], []
    for group, amount in groups:
        # Neighbours are cut out without a copy.
        chosen = slice(group[0], group[-1] + 1) if group[-1] - group[0] + 1 == len(group) else group
        states = (_side_by_side(states[:, chosen]) for states in (key, value))
        (keys, kept), (values, _) = (pool_tokens(tokens, mask, **amount, **how) for tokens in states)
        keys, values, queries = _split(keys, len(group)), _split(values, len(group)), query[:, chosen]
        if batch_norm:
            queries, keys = _fold(queries, keys, kept, settings)
        output, weights = softmax_attention(queries, keys, values, kept, scaling, dropout, output_attentions)
        outputs.append(output)
        maps.append(weights)
    if len(groups) == 1:
        return outputs[0], maps[0]
    order = [head for group, _ in groups for head in group]
    places = [order.index(head) for head in range(heads)]
    output = torch.cat(outputs, dim=2)
    if places != sorted(places):
        output = output[:, :, places]
    if not output_attentions:
        return output, None
    per_head = [head for weights in maps for head in weights.unbind(dim=1)]
    return output, tuple(per_head[place] for place in places)


def attention_function(name: str) -> Callable:
    """The attention function of a registered name."""
    choices = ATTENTIONS[name]

    def attention(module, query, key, value, attention_mask, **kwargs):
        return primal_dual_attention(choices, module, query, key, value, attention_mask, **kwargs)

    attention.__name__ = attention.__qualname__ = name
    return attention


__all__ = ["attention_function", "primal_dual_attention"]
