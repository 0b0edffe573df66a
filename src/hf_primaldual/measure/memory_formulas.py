"""
The memory of a text model's training step in closed form, for sizes that no machine at hand can hold.

In float32, without a mask and without dropout, with layer normalization. Vectors of one number a channel, such as the
keys' means, are left out: the formulas are within 3 % of what is measured from some hundred tokens on.
"""

from hf_primaldual.modeling import memory_primal_dual
from hf_primaldual.modeling.configuration_primal_dual import PrimalDualConfig
from hf_primaldual.modeling.configuration_primal_dual_models import PrimalDualTextConfig

from .formulas import FUSED, PLAIN, Group, head_groups, sparse_pairs

_FLOAT = 4


def attention_activation_bytes(
    config: PrimalDualConfig, tokens: int, batch: int = 1, attn_implementation: str = FUSED
) -> int:
    """
    Bytes that one attention layer keeps for its backward, its input among them.

    Args:
        config: the layer's.
        tokens: of a sequence.
        batch: sequences.
        attn_implementation: `"eager"` keeps the maps; any other is taken to keep queries, keys, values, outputs and
            one log-sum-exp for each head and query, as sdpa does.

    Raises:
        NotImplementedError: for what `head_groups` refuses, for sparse patterns of one part and sparse attention in
            plain operations, and for transforms other than bn, conv1d and conv2d.
    """
    _check(config, attn_implementation)
    width, heads, head_dim = config.hidden_size, config.num_attention_heads, config.head_dim
    kernel, transforms, training_set = config.choices
    groups = head_groups(config, tokens)
    queries, keys = tokens * width, sum(group.points * group.heads * head_dim for group in groups)
    # On long sequences what can be found anew is not kept.
    is_long = tokens >= memory_primal_dual.LONG
    # The layer's input, and what it is pooled to: the projections take both for their weights' gradients.
    kept = queries
    if not is_long:
        kept += sum(group.points * width for group in groups if group.points < tokens)
    kept += sum(queries + keys for name in transforms if name.startswith("conv"))
    if kernel == "linear":
        # Features have three intermediate results; the output is kept before the division and as the last product's.
        kept += 6 * queries + 5 * keys + heads * tokens
        # Several sequences are copied into the layout of a product, for each of the two over the queries.
        kept += queries if batch > 1 else 0
        if "bn" in transforms:
            # Differences with the means, and of the keys once more for their variance.
            kept += queries + 2 * keys
        return _FLOAT * batch * kept
    kept += 2 * queries + 2 * keys
    # Of what is folded into queries and keys, the queries before it and the centred keys are kept too.
    folds = bool(transforms) and transforms[-1] == "bn"
    kept += queries * (transforms.count("bn") - int(folds and is_long)) + keys * int(folds and not is_long)
    if attn_implementation == PLAIN:
        kept += sum(_map(group, tokens) for group in groups)
        if folds and is_long:
            # The product keeps them scaled, the fold as it made them.
            kept += queries
        if "bn" in transforms and batch > 1:
            # Several sequences are copied into the layout of the product, and are kept as they were too.
            kept += keys
        return _FLOAT * batch * kept
    kept += heads * tokens
    if len(groups) > 1 and not is_long:
        # Outputs of the groups, and side by side.
        kept += queries
    if "sparse" in training_set:
        # What a component keeps is a bias of its logits, the same for all heads.
        kept += sum(sum(sparse_pairs(config, tokens, group.points, group.scale)) for group in groups)
    return _FLOAT * batch * kept


def text_model_activation_bytes(
    config: PrimalDualTextConfig, tokens: int, batch: int = 1, attn_implementation: str = FUSED
) -> int:
    """
    Bytes that a forward of `PrimalDualTextForSequenceClassification` keeps for its backward, as `activation_memory`
    measures them.

    Args:
        config: the model's.
        tokens: of a text, without the token that `prepend_cls` puts in front.
        batch: texts.
        attn_implementation: see `attention_activation_bytes`.

    Raises:
        NotImplementedError: for what `attention_activation_bytes` refuses, batch normalization and dropout.
    """
    if config.norm_type != "layer" or config.hidden_dropout_prob or config.attention_probs_dropout_prob:
        raise NotImplementedError(
            "the memory formulas know models with `norm_type='layer'` and without dropout, got "
            f"{config.norm_type!r}, {config.hidden_dropout_prob} and {config.attention_probs_dropout_prob}."
        )
    tokens += int(config.prepend_cls)
    hidden, statistics = tokens * config.hidden_size, 2 * tokens
    # The inputs of both norms, the input of the feed-forward block, and its activation's before and after.
    block = 3 * hidden + 2 * statistics + 2 * tokens * config.intermediate_size
    last = hidden + statistics if config.norm_position == "pre" else 0
    attention = attention_activation_bytes(config, tokens, batch, attn_implementation)
    return config.num_hidden_layers * (attention + _FLOAT * batch * block) + _FLOAT * batch * last


def text_model_peak_bytes(
    config: PrimalDualTextConfig, tokens: int, batch: int = 1, attn_implementation: str = FUSED
) -> int:
    """
    Bytes at the peak of a training step, forward and backward, as `peak_memory` measures them.

    The peak lies in the backward of the last layer. With fused attention it is that of the feed-forward block, where
    nothing is released yet. In plain operations it is that of a softmax: a gradient of the maps goes in, one comes
    out, and the maps of the heads that come later are still there.

    Args:
        config: the model's.
        tokens: of a text.
        batch: texts.
        attn_implementation: see `attention_activation_bytes`.

    Raises:
        NotImplementedError: for what `text_model_activation_bytes` refuses, and for sparse attention, whose blocks are
            copies that come and go.
    """
    if "sparse" in config.choices.training_set:
        raise NotImplementedError("the formulas know no peak of sparse attention; measure it, it grows linearly.")
    kept = text_model_activation_bytes(config, tokens, batch, attn_implementation)
    hidden, inner = tokens * config.hidden_size, tokens * config.intermediate_size
    feed_forward_weights = config.hidden_size * config.intermediate_size
    peak = kept + _FLOAT * (batch * inner + feed_forward_weights)
    if attn_implementation == PLAIN and config.choices.kernel == "softmax":
        # By then the last norm, the feed-forward block and the output's projection are through.
        released = 4 * hidden + 2 * inner + (hidden if config.norm_position == "pre" else 0)
        here = kept + _FLOAT * (batch * (hidden - released) + 2 * feed_forward_weights)
        for group in sorted(head_groups(config, tokens), key=lambda group: group.points):
            own = _FLOAT * batch * _map(group, tokens)
            peak = max(peak, here + 2 * own)
            here -= own
    return peak


def _map(group: Group, tokens: int) -> int:
    return group.heads * tokens * group.points


def _check(config: PrimalDualConfig, attn_implementation: str) -> None:
    unknown = [name for name in config.choices.transforms if name not in ("bn", "conv1d", "conv2d")]
    if unknown or config.conv2d_reading == "grid":
        raise NotImplementedError(
            f"the memory formulas know the transforms bn, conv1d and conv2d by vectors, got "
            f"{', '.join(config.choices.transforms)} with `conv2d_reading={config.conv2d_reading!r}`."
        )
    if "sparse" not in config.choices.training_set:
        return
    if attn_implementation == PLAIN or tuple(config.sparse_pattern) in (("local",), ("strided",)):
        raise NotImplementedError(
            "the memory formulas know sparse attention of several parts through torch's flash kernel, got "
            f"`sparse_pattern={list(config.sparse_pattern)}` with {attn_implementation!r}."
        )


__all__ = ["attention_activation_bytes", "text_model_activation_bytes", "text_model_peak_bytes"]
