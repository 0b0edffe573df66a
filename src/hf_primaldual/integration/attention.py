"""Attention-BN and Attention-SH as attention functions, of the signature that transformers' models call."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from ..modeling.batch_norm_primal_dual import fold_batch_norm
from ..modeling.head_groups_primal_dual import HeadGroups
from ..modeling.interval_attention_primal_dual import IntervalAttention, in_query_heads
from ..modeling.intervals_primal_dual import Intervals
from ..modeling.kernels_primal_dual import backend_mask, eager_attention_forward
from ..modeling.keywords_primal_dual import nearest_to
from ..modeling.masks_primal_dual import seen_keys
from ..modeling.packing_primal_dual import (
    documents_of,
    intervals_of_starts,
    starts_of_lengths,
    starts_of_positions,
)
from ..modeling.padding_primal_dual import can_look, row_starts, shift_rows
from ..modeling.presets_primal_dual import PRESETS, AttentionChoices
from ..modeling.short_primal_dual import are_short, attend_at_once, pooling, pools_by_product
from .caches import memory_for
from .dispatch import is_cross_attention
from .layouts import check_places, pool_frames, token_layout
from .settings import ATTENTIONS, LayerSettings, given, layer_settings

# What models hand to their attention function that does not change the answer, or that they have dealt with before.
# Whatever else is not None is refused: it may be a bias, a cap, packed lengths, or a user's misspelt argument, which
# many models of transformers pass on unread.
HARMLESS = (
    "cache_position",
    "cu_seq_lens_k",
    "cu_seq_lens_q",
    "deterministic",
    "grid_thw",
    "is_causal",
    "layer_idx",
    "max_length_k",
    "max_length_q",
    "num_items_in_batch",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "return_dict",
    "sliding_window",
    "use_cache",
)


def check_self_attention(module: nn.Module, query: torch.Tensor, key: torch.Tensor, kwargs: dict) -> bool:
    """
    Returns:
        Whether the layer is causal.

    Raises:
        ValueError: when the layer attends to other tokens than its own, or is more than softmax attention.
    """
    name = type(module).__name__
    is_causal = kwargs.get("is_causal")
    # As in transformers, the call goes before the module. A module that says nothing depends on its mask alone.
    is_causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    is_shorter = query.shape[2] != key.shape[2] and not is_causal
    if is_cross_attention(module) or is_shorter or query.shape[0] != key.shape[0]:
        raise ValueError(
            f"{name} attends from {query.shape[2]} tokens to {key.shape[2]} others, but the primal-dual attentions "
            "are self-attentions; cross attention, and all that shares its configuration, needs "
            "`attn_implementation='sdpa'`."
        )
    for unknown, value in kwargs.items():
        if value is not None and unknown not in HARMLESS:
            near = nearest_to(unknown, (*HARMLESS, "attention_mask", "output_attentions"))
            raise ValueError(
                f"{name} passes `{unknown}` to its attention, which the primal-dual attentions can't honour; "
                + (f"if `{near}` was meant, write that, else " if near else "")
                + "use `attn_implementation='sdpa'`."
            )
    return is_causal


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
    usual, own = head_dim**-0.5, getattr(module, "scaling", None)
    if isinstance(own, torch.Tensor):
        # Of each channel.
        own = None
    if type(module).__name__ in SCALED_BEFORE or own == usual:
        return usual
    if own == 1 and hasattr(module, "q_norm"):
        # Queries and keys are normalized, so that the scale is the model's own.
        return 1.0
    raise ValueError(
        f"{type(module).__name__} passes `scaling=1`, as a layer does that has scaled its queries before; "
        "Attention-BN would take the keys' mean from queries of another scale: use `primal_dual_sh`, or "
        "`attn_implementation='sdpa'`."
    )


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
        attention_mask (`torch.Tensor`, *optional*): see `seen_keys`.
        scaling (`float`, *optional*): of the logits, by default `1 / sqrt(head_dim)`.
        dropout (`float`): of the maps.
        output_attentions (`bool`): whether to form the maps.
        primal_dual_grid (`tuple[int, ...]`, *optional*): of the patches of the model's input, see `watch_inputs`.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`; and the maps or `None`: one tensor of shape `(batch,
        heads, tokens, keys)` where all heads see as many keys, else a tuple with one of shape `(batch, tokens, keys)`
        for each head.

    Raises:
        ValueError: for settings that are wrong, a mask that shows a query other keys than an interval, a layer that
            attends to other tokens than its own or has scaled its queries, or a layout of tokens that is not known.
    """
    is_causal, memory = check_self_attention(module, query, key, kwargs), memory_for(module)
    if memory is not None:
        memory.keep(key)
    _, heads, _, head_dim = query.shape
    settings = layer_settings(module.config, heads, head_dim, getattr(module, "primal_dual_layer", None))
    seen = _seen(attention_mask, query, key, is_causal, kwargs)
    if isinstance(seen, Intervals) and not is_causal and can_look(seen.last):
        # A layer that does not say so.
        is_causal = bool((seen.last == torch.arange(query.shape[2], device=seen.last.device)).all())
    scaling = head_dim**-0.5 if scaling is None else scaling
    batch_norm = "bn" in choices.transforms
    if batch_norm and scaling == 1 != head_dim:
        scaling = scale_of_queries(module, head_dim)
        query = query / scaling
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))  # (batch, tokens, heads, head_dim)
    # A window of keys is cheap already.
    downsampled = choices.training_set == "downsampled" and kwargs.get("sliding_window") is None
    fold = settings.fold if batch_norm else None
    if is_causal or (isinstance(seen, Intervals) and not downsampled):
        if downsampled:
            check_causal_settings(settings, module)
        attend = IntervalAttention(
            module,
            scaling,
            dropout,
            fold,
            settings.amounts if downsampled else None,
            settings.sampling,
            settings.seed,
            is_causal,
            output_attentions,
            memory if kwargs.get("sliding_window") is None else None,
        )
        width = value.shape[-1]
        if downsampled and width < head_dim:
            # The flash kernel takes one size; latent attention has smaller values.
            value = nn.functional.pad(value, (0, head_dim - width))
        output, maps = attend(query, key, value, seen)
        return output[..., :width], maps
    key, value = in_query_heads(query, key, value)
    how = {"scaling": scaling, "dropout": dropout, "with_maps": output_attentions, "grid": primal_dual_grid}
    attend = partial(_over_all_tokens, module, settings, downsampled, fold, **how)
    if not isinstance(seen, Intervals):
        return attend(query, key, value, mask=seen)
    documents = documents_of(seen, len(query), is_causal)
    if documents is None or output_attentions:
        raise ValueError(
            f"{type(module).__name__} shows its queries intervals of keys that Attention-SH "
            + ("has no windows for" if documents is None else "has no common maps for")
            + "; use 'bn' or `attn_implementation='sdpa'`."
        )
    output, _ = attend(*map(documents.unpack, (query, key, value)), mask=documents.mask)
    return documents.pack(output, others=value), None


def _seen(attention_mask, query, key, is_causal: bool, kwargs: dict) -> torch.Tensor | Intervals | None:
    """What the mask says, and the lengths or positions of packed documents."""
    seen = seen_keys(attention_mask, query, key, is_causal)
    lengths, positions, tokens = kwargs.get("cu_seq_lens_q"), kwargs.get("position_ids"), query.shape[2]
    starts = None
    if lengths is not None:
        starts = starts_of_lengths(lengths, tokens)
    elif tokens == key.shape[2] and positions is not None and positions.shape[1:] == (tokens,) and can_look(positions):
        starts = starts_of_positions(positions)
    if starts is None or (isinstance(seen, torch.Tensor) and lengths is None):
        return seen
    packed = intervals_of_starts(starts, is_causal)
    if seen is None:
        return packed
    if not isinstance(seen, Intervals):
        raise ValueError("`attention_mask` must not be given with `cu_seq_lens_q`: packed documents have no padding.")
    return Intervals(torch.maximum(seen.first, packed.first), torch.minimum(seen.last, packed.last))


def _over_all_tokens(
    module,
    settings: LayerSettings,
    downsampled: bool,
    fold,
    query,
    key,
    value,
    *,
    mask,
    scaling,
    dropout,
    with_maps,
    grid,
):
    """Each head is fitted on all tokens of a row, or on points of theirs; `(batch, tokens, heads, head_dim)`."""
    groups, pool = HeadGroups([1] * query.shape[2]), None
    if downsampled:
        groups = HeadGroups(settings.amounts)
        check_places(module)
        prefix, grid_size = token_layout(module.config, key.shape[1], grid)
        frames = 1
        if grid_size is not None:
            *frames, height, width = grid_size
            frames, grid_size = math.prod(frames), (height, width)
        how = {"grid_size": grid_size, "sampling": settings.sampling, "seed": settings.seed, "prefix": prefix}
        if grid_size is None:
            key, value, mask = from_first_tokens(key, value, mask, prefix)
        at_once = frames == 1 and not with_maps and len(groups.heads) > 1 and query.shape[-1] == value.shape[-1]
        if at_once and are_short(key) and pools_by_product(settings.sampling, settings.amount_name, mask):
            kind = {"dtype": key.dtype, "device": key.device, "centres": fold is not None and mask is None}
            pooled = pooling(key.shape[1], tuple(settings.amounts), name=settings.amount_name, **kind, **how)
            attend = partial(nn.functional.scaled_dot_product_attention, dropout_p=dropout, scale=scaling)
            return attend_at_once(query, key, value, mask, pooled, fold, attend).transpose(1, 2), None
        pool = partial(pool_frames, mask=mask, frames=frames, **how)
    width, outputs, maps = query.shape[-1], [], []
    keys, values = (list(map(partial(torch.flatten, start_dim=2), groups.split(each))) for each in (key, value))
    masks = [mask] * len(keys)
    if pool is not None:
        for group, amount in enumerate(groups.amounts):
            # (batch, points, group_heads * head_dim), keys and values side by side
            points = torch.cat((keys[group], values[group]), dim=-1)
            points, masks[group] = pool(points, **{settings.amount_name: amount})
            keys[group], values[group] = points.split((keys[group].shape[-1], values[group].shape[-1]), dim=-1)
    query = groups.gather(query)
    if fold is not None:
        folded, keys = fold_batch_norm(query.flatten(2), keys, masks, *fold)
        query = folded.unflatten(-1, (-1, width))
    for queries, keys_of, values_of, kept in zip(groups.parts(query), keys, values, masks, strict=True):
        states = queries, keys_of.unflatten(-1, (-1, width)), values_of.unflatten(-1, (-1, value.shape[-1]))
        output, weights = softmax_attention(module, *states, kept, scaling, dropout, with_maps)
        outputs.append(output)  # (batch, tokens, group_heads, head_dim)
        maps.append(weights)  # (batch, group_heads, tokens, keys)
    return groups.join(outputs), groups.collect(maps)


def check_causal_settings(settings: LayerSettings, module: nn.Module) -> None:
    """
    Raises:
        ValueError: for settings that depend on how many tokens come later, or on where they lie in an image.
    """
    if settings.amount_name == "points":
        raise ValueError(
            f"`primal_dual['head_points']` must not be set for {type(module).__name__}, which is causal: how many "
            "tokens a point stands for would depend on tokens to come; set `head_scales`."
        )
    for name in ("num_prefix_tokens", "grid_size"):
        if given(module.config, name):
            raise ValueError(
                f"`primal_dual[{name!r}]` must not be set for {type(module).__name__}, which is causal: its windows "
                "count from a row's first token."
            )


def attention_function(name: str) -> Callable:
    """The attention function of a registered name."""
    choices = PRESETS[ATTENTIONS[name]]

    def attention(module, query, key, value, attention_mask, **kwargs):
        return primal_dual_attention(choices, module, query, key, value, attention_mask, **kwargs)

    attention.__name__ = attention.__qualname__ = name
    return attention


__all__ = ["attention_function", "primal_dual_attention"]
