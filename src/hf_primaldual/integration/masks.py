"""Which keys count: padding is kept through transformers' mask functions, and what is more than padding is refused."""

import torch
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from ..modeling.training_sets_primal_dual import check_mask


def padding_mask(
    q_length: int,
    kv_length: int,
    mask_function=None,
    attention_mask: torch.Tensor | None = None,
    config=None,
    **kwargs,
) -> torch.Tensor | None:
    """
    The mask function registered with transformers' `AttentionMaskInterface`: the padding mask as it came, for
    [`~hf_primaldual.integration.attention.primal_dual_attention`], and `None` where it masks nothing.

    Without one, transformers drops padding in silence for a registered attention function.

    Args:
        q_length, kv_length (`int`): number of queries and keys.
        mask_function (`Callable`): which keys the model wants a query to see.
        attention_mask (`torch.BoolTensor` of shape `(batch, kv_length)`, *optional*): true for a real token.

    Returns:
        A `torch.BoolTensor` of shape `(batch, kv_length)`, or `None`; where queries and keys are not the same tokens,
        transformers' own mask for sdpa.

    Raises:
        ValueError: when the model is causal, or else lets a query see only some of the tokens; when a row has no real
            token.
    """
    if mask_function is not None and mask_function is not bidirectional_mask_function:
        raise ValueError(
            "The primal-dual attentions fit each head on all tokens of a sequence, but the model asked for a mask of "
            f"its own ({getattr(mask_function, '__qualname__', mask_function)}); a causal, local or packed attention "
            "needs `attn_implementation='sdpa'`."
        )
    if isinstance(q_length, int) and isinstance(kv_length, int) and q_length != kv_length:
        # A pooling head may ask for the mask of its own attention; a layer that dispatches is refused by name.
        return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **kwargs)
    if attention_mask is None:
        return None
    mask = check_mask(attention_mask, attention_mask)
    # Its convolutions read the mask, too.
    return mask[:, None, None] if getattr(config, "model_type", None) == "lasr_encoder" else mask


def _refuse(attention_mask: torch.Tensor, why: str) -> None:
    raise ValueError(
        f"`attention_mask` of shape {tuple(attention_mask.shape)} {why}; the primal-dual attentions know padding "
        "only: pass a mask of shape (batch, tokens), or use `attn_implementation='sdpa'`."
    )


def key_mask(attention_mask: torch.Tensor | None, key: torch.Tensor) -> torch.Tensor | None:
    """
    What an attention layer was given as its mask, as the keys that count.

    Args:
        attention_mask (`torch.Tensor`, *optional*): that of `padding_mask`, of shape `(batch, tokens)`; or one that
            the model or its user made, of a shape that broadcasts to `(batch, heads, tokens, tokens)`, boolean or
            added to the logits, as long as it says nothing but which keys are padding.
        key (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).

    Returns:
        A `torch.BoolTensor` of shape `(batch, tokens)`, or `None` where all count.

    Raises:
        ValueError: for a mask that differs between queries or heads, or that is a bias. Under `torch.compile`, where
            values can't be looked at, for any whose shape or dtype would allow that.
    """
    if attention_mask is None:
        return None
    batch, _, tokens, _ = key.shape
    if attention_mask.dim() == 2 and attention_mask.dtype == torch.bool:
        # padding_mask has looked at its values, once for all layers.
        return attention_mask
    if attention_mask.dim() == 2:
        return check_mask(attention_mask, key[:, 0])
    if attention_mask.dim() != 4 or attention_mask.shape[-1] != tokens:
        _refuse(attention_mask, f"does not broadcast to (batch, heads, {tokens}, {tokens})")
    of_first_query = attention_mask[:, :1, :1]
    is_boolean = attention_mask.dtype == torch.bool
    if torch.compiler.is_compiling():
        if attention_mask.shape[1:3] != (1, 1) or not is_boolean:
            _refuse(attention_mask, "may be more than padding, which can't be seen under torch.compile")
        return of_first_query[:, 0, 0].expand(batch, -1)
    if attention_mask.requires_grad:
        _refuse(attention_mask, "is learned, a bias")
    if (attention_mask != of_first_query).any():
        _refuse(attention_mask, "differs between queries or heads")
    if not is_boolean:
        # Padding is added as the dtype's least number, minus infinity, or in older code -10000.
        if not ((of_first_query == 0) | (of_first_query <= -1e4)).all():
            _refuse(attention_mask, "is added to the logits and holds more than 0 and very negative numbers, a bias")
        of_first_query = of_first_query == 0
    return check_mask(of_first_query[:, 0, 0].expand(batch, -1), key[:, 0])


__all__ = ["key_mask", "padding_mask"]
