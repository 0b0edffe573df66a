"""The kernels Phi(x).Phi(y): softmax attention through any back-end of transformers, and linear attention."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, bidirectional_mask_function
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .block_masks_primal_dual import block_mask
from .downsampling_primal_dual import WindowOrder
from .maps_primal_dual import MapLayout
from .padding_primal_dual import can_look
from .sparse_primal_dual import SparsePattern, dense_mask, sparse_softmax


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A region without autocast, on devices that know none (meta) too."""
    # Dynamo of torch 2.11 can't trace the question.
    is_known = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device.type)
    if is_known and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    layout: MapLayout = MapLayout(),
    output_attentions: bool = False,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...]]:
    """
    Softmax attention in plain operations, the one back-end that returns the maps. As in a fused kernel the logits are
    at least float32: those of float16 would overflow.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, heads, keys, head_dim)`).
        attention_mask (`torch.Tensor` broadcastable to `(batch, heads, tokens, keys)`, *optional*): added to the
            logits.
        layout (`MapLayout`): how the maps are put out.
        output_attentions (`bool`): whether they were asked for.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)` and the maps, `(batch, heads, tokens, keys)` or as
        `layout` says.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    with without_autocast(query.device):
        logits = torch.matmul(query.to(dtype) * scaling, key.to(dtype).transpose(2, 3))
    if attention_mask is not None:
        logits = logits + attention_mask
    weights = nn.functional.softmax(logits, dim=-1).to(value.dtype)
    maps, weights = layout.put_out(weights, output_attentions)
    dropped = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(dropped, value).transpose(1, 2).contiguous(), maps


def additive_mask(keep: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """0 where `keep` is true, else the lowest number, in the precision of the logits: at least float32."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    return torch.zeros(keep.shape, dtype=dtype, device=keep.device).masked_fill(~keep, torch.finfo(dtype).min)


def backend_mask(
    implementation: str, mask: torch.Tensor | None, query: torch.Tensor, config
) -> torch.Tensor | object | None:
    """
    The mask of valid keys in the form that a back-end of transformers takes.

    Padding masks the same keys for every query, so eager and sdpa get a mask that broadcasts over the queries instead
    of the `tokens x keys` one that transformers builds. Any other back-end is asked through its own mask function.

    Args:
        implementation (`str`): the name of the back-end.
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).

    Raises:
        ValueError: if the back-end has no mask function registered, since the padding would be lost in silence.
    """
    if mask is None:
        return None
    if implementation == "sdpa":
        return mask[:, None, None, :].expand(-1, -1, query.shape[2], -1)
    if implementation == "eager":
        return additive_mask(mask, query)[:, None, None, :]
    if implementation not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise ValueError(
            f"`attn_implementation={implementation!r}` has no mask function in transformers' AttentionMaskInterface, "
            "so padding would be lost; register one, or call the model without padding."
        )
    return ALL_MASK_ATTENTION_FUNCTIONS[implementation](
        batch_size=mask.shape[0],
        q_length=query.shape[2],
        kv_length=mask.shape[1],
        mask_function=bidirectional_mask_function,
        attention_mask=mask,
        dtype=query.dtype,
        device=query.device,
        config=config,
    )


def softmax_kernel(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
    implementation: str,
    pattern: SparsePattern | None = None,
    order: WindowOrder | None = None,
    layout: MapLayout = MapLayout(),
    output_attentions: bool = False,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
    """
    Phi(x).Phi(y) = exp(x.y / sqrt(head_dim)), the kernel of softmax attention, by one of transformers' back-ends.
    `output_attentions=True` takes eager, the only one that forms the maps.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, heads, keys, head_dim)`).
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        implementation (`str`): the name of the back-end, the model's `attn_implementation`.
        pattern (`SparsePattern`, *optional*): which keys each query sees; the back-end is then FlexAttention where
            that is named and there is no dropout; or torch's sdpa, or for a union its flash kernel on a CPU, or plain
            operations: where it is eager, and for a union elsewhere.
        order (`WindowOrder`, *optional*): the order of the queries in which the pattern holds.
        layout (`MapLayout`): how the maps are put out.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`; and the maps, `(batch, heads, tokens, keys)` or as
        `layout` says, or `None` where the back-end does not form them.
    """
    if output_attentions:
        implementation = "eager"
    if pattern is not None and output_attentions:
        # The maps are of all pairs: they are formed where they are asked for, and only there.
        tokens = query.shape[2] if order is None else len(order.tokens)
        keep = dense_mask(pattern, tokens, key.shape[2], query.device)
        keep = keep if order is None else keep[order.places]
        keep = keep if mask is None else keep & mask[:, None, None, :]
        bias = additive_mask(keep, query)
        return eager_attention_forward(module, query, key, value, bias, scaling, dropout, layout, output_attentions)
    attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    if pattern is not None and implementation == "flex_attention" and dropout == 0:
        keep = block_mask(pattern, query, key.shape[2], mask, order)
        return attention(module, query, key, value, keep, scaling=scaling, **kwargs)[0], None
    if pattern is not None:
        query = query if order is None else query[:, :, order.tokens]
        output = sparse_softmax(query, key, value, mask, pattern, scaling, dropout, fused=implementation != "eager")
        return output if order is None else output[:, order.places], None
    if mask is not None and "flash" in implementation and mask.shape[1] != query.shape[2]:
        (output,) = packed_flash(module, [query], [key], [value], [mask], scaling, dropout, implementation, **kwargs)
        return output, None
    attention_mask = backend_mask(implementation, mask, query, module.config)
    if implementation == "eager":
        kwargs = {"layout": layout, "output_attentions": output_attentions}
    output, weights = attention(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    # flex_attention returns its log-sum-exp in the place of the maps.
    return output, weights if implementation == "eager" else None


def packed_flash(
    module: nn.Module,
    queries: Sequence[torch.Tensor],
    keys: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor | None],
    scaling: float,
    dropout: float,
    implementation: str,
    **kwargs,
) -> list[torch.Tensor]:
    """
    FlashAttention over the keys of groups of as many heads each, in one call for all of them: each row of each group
    is a sequence of its own.

    transformers unpads queries and keys by one common mask, which downsampled keys do not share; here only the keys
    are unpadded, and the lengths are handed over as FlashAttention's own arguments. Tested against a stand-in kernel
    only: unmeasured on a GPU.

    Args:
        queries (`torch.Tensor`s of shape `(batch, heads, tokens, head_dim)`).
        keys, values (`torch.Tensor`s of shape `(batch, heads, points, head_dim)`).
        masks (`torch.BoolTensor`s of shape `(batch, points)`, or `None`): true for the points that count.

    Returns:
        The outputs, of shape `(batch, tokens, heads, head_dim)`.
    """
    batch, heads, tokens, head_dim = queries[0].shape
    lengths = [
        torch.full((batch,), key.shape[2], dtype=torch.int32, device=key.device)
        if mask is None
        else mask.sum(dim=1, dtype=torch.int32)
        for key, mask in zip(keys, masks, strict=True)
    ]
    longest = max(
        key.shape[2] if mask is None else int(each.max()) for key, mask, each in zip(keys, masks, lengths, strict=True)
    )

    def packed(groups, masks):
        rows = (states.transpose(1, 2) for states in groups)  # (batch, points, heads, head_dim)
        rows = [each.flatten(0, 1) if mask is None else each[mask] for each, mask in zip(rows, masks, strict=True)]
        return torch.cat(rows).transpose(0, 1).unsqueeze(0)

    sequences = batch * len(queries)
    output, _ = ALL_ATTENTION_FUNCTIONS[implementation](
        module,
        packed(queries, [None] * len(queries)),
        packed(keys, masks),
        packed(values, masks),
        None,
        scaling=scaling,
        dropout=dropout,
        cu_seq_lens_q=torch.arange(0, (sequences + 1) * tokens, tokens, dtype=torch.int32, device=queries[0].device),
        cu_seq_lens_k=nn.functional.pad(torch.cat(lengths).cumsum(0, dtype=torch.int32), (1, 0)),
        max_length_q=tokens,
        max_length_k=longest,
        **kwargs,
    )
    return list(output.reshape(len(queries), batch, tokens, heads, head_dim))


def elu_plus_one(states: torch.Tensor) -> torch.Tensor:
    """
    Phi(x) = elu(x) + 1, the feature map of linear attention (Katharopoulos et al., 2020).

    Not as a sum with 1: below -17 that is 0 in float32, and a query with only such channels would see nothing.
    """
    # As a clamp from above whose backward is one pass on a CPU; the bound is where 0 itself still has a gradient.
    negative = nn.functional.hardtanh(states, -torch.inf, 1e-30)
    return nn.functional.relu(states) + negative.exp()


def feature_map(name: str) -> Callable:
    """
    The elementwise feature map of a name: `"elu+1"`, or any activation of transformers.

    Raises:
        ValueError: for a name that is neither.
    """
    if name == "elu+1":
        return elu_plus_one
    if name not in ACT2FN:
        raise ValueError(f"`feature_map` must be 'elu+1' or an activation of transformers, got {name!r}.")
    return ACT2FN[name]


def check_features(features: torch.Tensor, name: str) -> None:
    """
    Raises:
        ValueError: for a negative feature, with which weights are no longer shares (looked at on a CPU only: on other
            devices that would wait for it).
    """
    if features.device.type == "cpu" and can_look(features) and (features < 0).any():
        raise ValueError(
            f"`feature_map={name!r}` gave {features.min().item():.3g}; a kernel's features must not be negative."
        )


def linear_kernel(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
    pattern: None = None,
    order: None = None,
    layout: MapLayout = MapLayout(),
    output_attentions: bool = False,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
    """
    Phi(x).Phi(y) of an explicit feature map, h_i = Phi(q_i) sum_j Phi(k_j) v_j^T / (Phi(q_i) . sum_j Phi(k_j)): time
    and memory grow linearly with the tokens. There are no maps that dropout could act on, nor a scale in the kernel.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, heads, keys, head_dim)`).
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        pattern, order: none, since every query sees the same sums.
        layout (`MapLayout`): how the maps are put out.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`; and the maps, `(batch, heads, tokens, keys)` or as
        `layout` says, which are formed only where `output_attentions` asks for them. With gradients the output is then
        made of them.

    Raises:
        ValueError: when the feature map gives a negative feature.
    """
    name = module.config.feature_map
    phi = feature_map(name)
    # Sums over thousands of tokens are kept in float32, under autocast too.
    dtype = torch.promote_types(query.dtype, torch.float32)
    with without_autocast(query.device):
        query_features, key_features = phi(query.to(dtype)), phi(key.to(dtype))
        if name != "elu+1":
            check_features(query_features, name)
            check_features(key_features, name)
        if mask is not None:
            key_features = key_features.masked_fill(~mask[:, None, :, None], 0)
        normalizer = query_features @ key_features.sum(dim=2).unsqueeze(-1)
        # A feature map with zeros may leave a query without any key: its output is zero. So is it where the gradient,
        # which divides by the sum, would overflow.
        normalizer = torch.where(normalizer > torch.finfo(dtype).tiny ** 0.75, normalizer, 1)
        maps = None
        if output_attentions:
            weights = query_features @ key_features.transpose(2, 3) / normalizer
            maps, weights = layout.put_out(weights.to(query.dtype), output_attentions)
        if output_attentions and weights.requires_grad:
            output = weights.to(dtype) @ value.to(dtype)
        else:
            output = query_features @ (key_features.transpose(2, 3) @ value.to(dtype)) / normalizer
    return output.to(query.dtype).transpose(1, 2), maps


KERNELS = {"softmax": softmax_kernel, "linear": linear_kernel}


__all__ = [
    "KERNELS",
    "backend_mask",
    "eager_attention_forward",
    "elu_plus_one",
    "feature_map",
    "linear_kernel",
    "packed_flash",
    "softmax_kernel",
]
