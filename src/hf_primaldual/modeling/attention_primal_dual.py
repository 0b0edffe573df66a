"""PrimalDualAttention: the kernel, the transforms and the training set of a configuration, put together."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .batch_norm_primal_dual import KeyBatchNorm
from .configuration_primal_dual import PrimalDualConfig
from .extensions_primal_dual import EXTENSIONS
from .head_groups_primal_dual import HeadGroups
from .kernels_primal_dual import KERNELS, feature_map, packed_flash
from .keywords_primal_dual import check_keywords
from .maps_primal_dual import MapLayout
from .memory_primal_dual import recomputed_in_backward
from .padding_primal_dual import row_starts as starts_of
from .padding_primal_dual import shift_rows
from .short_primal_dual import are_short, attend_at_once, pools_by_product
from .training_sets_primal_dual import TRAINING_SETS, check_mask
from .transforms_primal_dual import TRANSFORMS


def is_plain(module: nn.Module, kind: type[nn.Module] = nn.Linear) -> bool:
    """
    Whether a module, a linear layer, is no more than its parameters: no LoRA adapter, no quantized or offloaded layer,
    and none with hooks.
    """
    return (
        type(module) is kind
        and "forward" not in vars(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
    )


def by_group(linear: nn.Module, groups: HeadGroups, width: int) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """
    For each group of heads, what a linear layer gives in their output channels, `width` for each head, at the cost of
    those alone.

    A layer that is more than its weight and bias is called as a whole and its output cut, so that nothing of it is
    lost.
    """
    if len(groups.heads) == 1:
        return [linear]
    if not is_plain(linear):
        return [
            lambda inputs, group=group: groups.parts(groups.gather(linear(inputs), width), width)[group]
            for group in range(len(groups.heads))
        ]
    weights, biases = (
        [None] * len(groups.heads) if rows is None else groups.parts(groups.gather(rows, width, dim=0), width, dim=0)
        for rows in (linear.weight, linear.bias)
    )
    return [partial(nn.functional.linear, weight=w, bias=b) for w, b in zip(weights, biases, strict=True)]


def build_transforms(config: PrimalDualConfig) -> nn.ModuleList:
    """
    The chain of a configuration's transforms.

    Raises:
        ValueError: for a transform from outside of this package that nobody has registered.
    """
    kernel, names, _ = config.choices
    known = TRANSFORMS | EXTENSIONS
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`transforms` names {unknown[0]!r}, which is neither one of {', '.join(TRANSFORMS)} nor registered; pass "
            "its class to `hf_primaldual.theory.register_transform` first; or, if the checkpoint brings its file, the "
            "checkpoint to `hf_primaldual.theory.register_transforms_of`, which runs it."
        )
    transforms = nn.ModuleList(known[name](config) for name in names)
    for transform in transforms:
        if "grid_size" not in inspect.signature(transform.forward).parameters:
            transform.register_forward_pre_hook(_without_grid)
    # Softmax ignores what is constant over the keys, so that a last batch normalization folds into the queries.
    if kernel == "softmax" and names[-1:] == ("bn",):
        transforms[-1].folds = True
    return transforms


def _without_grid(transform: nn.Module, arguments: tuple) -> tuple:
    """What transforms from outside were called with when they were not told of the grid."""
    return arguments[:5]


class PrimalDualAttention(nn.Module):
    """
    Attention as the support vector expansion of a regression: each head h is fitted on its own training set of N_h
    keys k_j with values v_j, and is evaluated at its queries (paper, section 2 and Definitions 1 and 2):

        h_i = sum_j softmax_j(T(q_i) . T(k_j) / sqrt(head_dim)) v_j

    The weights have the plain shapes of softmax attention, so its checkpoints load into any variant.

    Args:
        config (`PrimalDualConfig`): its field `attention` names the preset.
        layer_idx (`int`, *optional*): the layer's place in a model.

    Raises:
        ValueError: when the configuration's fields contradict each other.
    """

    def __init__(self, config: PrimalDualConfig, layer_idx: int | None = None):
        super().__init__()
        config.validate_attention()
        self.config = config
        self._built_from = config.attention_fields()
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        # What transformers' back-ends ask of a layer.
        self.is_causal = False
        self.num_key_value_groups = 1

        kernel = config.choices.kernel
        self.kernel = KERNELS[kernel]
        if kernel == "linear":
            # An unknown name is refused now and not in the first forward.
            feature_map(config.feature_map)
        self.transforms = build_transforms(config)
        self.training_set = TRAINING_SETS[config.choices.training_set](config.of_layer(layer_idx))
        self.groups = self.training_set.groups
        self.turns_rows = _counts_from_the_start(config)

        self.num_added_tokens = config.num_added_tokens
        self.hidden_size = width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(width, width)

    def extra_repr(self) -> str:
        return f"attention={self.config.attention!r}"

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_is_checked: bool = False,
        grid_size: tuple[int, int] | None = None,
        row_starts: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for a real token, 0 for padding.
            mask_is_checked (`bool`): the mask went through `check_mask`, as a model does once for all its layers, and
                `row_starts` are those of it.
            grid_size (`tuple[int, int]`, *optional*): height and width in patches of these images, where they are not
                the configuration's.
            row_starts (`torch.LongTensor` of shape `(batch,)`, *optional*): from `row_starts` of padding, with a mask
                that is checked.
            kwargs: `output_attentions=True` for the maps, which eager then computes, by default
                `config.output_attentions`; `kernel_options` go to the back-end.

        Returns:
            The output of shape `(batch, tokens, width)`; and the attention maps, or `None` where the back-end does not
            form them. Where all heads see the same keys the maps are one tensor `(batch, heads, tokens, keys)`, and
            where heads differ in their scale or points a tuple with one tensor for each head, `(batch, tokens, keys)`.

        Raises:
            TypeError: for an unknown keyword.
            ValueError: when `hidden_states` or `attention_mask` have another shape, a row has no real token, or the
                grid and the prefix do not make up the tokens.
        """
        check_keywords(self, kwargs)
        shape = hidden_states.shape
        if len(shape) != 3 or shape[1] == 0 or shape[2] != self.hidden_size:
            raise ValueError(
                f"`hidden_states` must have shape (batch, tokens, {self.hidden_size}) with at least one token, "
                f"got {tuple(shape)}."
            )
        prefix = self.num_added_tokens
        if attention_mask is not None and not mask_is_checked:
            attention_mask = check_mask(attention_mask, hidden_states)
            row_starts = starts_of(attention_mask, prefix)
        # What is padded on the left has its windows where it would have them alone.
        turned = row_starts is not None and self.turns_rows
        if turned:
            hidden_states = shift_rows(hidden_states, row_starts, prefix)
            attention_mask = shift_rows(attention_mask, row_starts, prefix)

        kwargs.setdefault("output_attentions", self.config.output_attentions)
        # A layer used on its own has no model that would have chosen a back-end.
        kwargs["implementation"] = self.config._attn_implementation or "sdpa"
        if self._goes_at_once(hidden_states, attention_mask, kwargs):
            output = self._at_once(hidden_states, attention_mask, grid_size)
            output = shift_rows(output, row_starts, prefix, back=True) if turned else output
            return self.o_proj(output.flatten(2)), None
        dropout = self.attention_dropout if self.training else 0.0
        layout = MapLayout(len(self.groups.heads) > 1, row_starts if turned else None, prefix)
        groups = self.training_set(hidden_states, attention_mask, grid_size)
        query = self.groups.gather(self.q_proj(hidden_states), self.head_dim)
        points = []
        projections = (by_group(linear, self.groups, self.head_dim) for linear in (self.k_proj, self.v_proj))
        for group, *to_key_and_value in zip(groups, *projections, strict=True):
            project = partial(_project_points, group.pool, *to_key_and_value)
            # (batch, points, group_heads * head_dim) twice, and (batch, points)
            points.append(recomputed_in_backward(project, hidden_states, saves=group.is_pooled))
        keys, values, masks = zip(*points, strict=True)
        queries, keys = self._transform(query, keys, attention_mask, masks, grid_size)
        # (batch, group_heads, tokens, head_dim), and of keys and values points
        heads_apart = [
            [self._split_heads(each).transpose(1, 2) for each in states] for states in (queries, keys, values)
        ]
        outputs, maps = [], []
        if self._goes_packed(kwargs):
            kwargs.pop("output_attentions")
            outputs = packed_flash(self, *heads_apart, masks, scaling=self.scaling, dropout=dropout, **kwargs)
            maps = [None] * len(groups)
        else:
            for *states, mask, group in zip(*heads_apart, masks, groups, strict=True):
                how = {"pattern": group.pattern, "order": group.order, "layout": layout, **kwargs}
                output, weights = self.kernel(self, *states, mask, scaling=self.scaling, dropout=dropout, **how)
                outputs.append(output)  # (batch, tokens, group_heads, head_dim)
                maps.append(weights)  # (batch, group_heads, tokens, points), or a tuple of (batch, tokens, points)
        if turned:
            outputs = [shift_rows(output, row_starts, prefix, back=True) for output in outputs]
        output = recomputed_in_backward(self._project_outputs, *outputs, saves=len(outputs) > 1)
        return output, self.groups.collect(maps)

    def _goes_at_once(self, hidden_states: torch.Tensor, mask: torch.Tensor | None, kwargs: dict) -> bool:
        """Whether all heads can be attended to in one call, and that is the faster way."""
        return (
            len(self.groups.heads) > 1
            and kwargs["implementation"] == "sdpa"
            and not kwargs["output_attentions"]
            and self.training_set.pattern is None
            and pools_by_product(self.training_set.sampling, self.training_set.amount_name, mask)
            and self.kernel is KERNELS["softmax"]
            and all(getattr(each, "folds", False) and is_plain(each, KeyBatchNorm) for each in self.transforms)
            and are_short(hidden_states)
        )

    def _goes_packed(self, kwargs: dict) -> bool:
        """Whether FlashAttention takes all groups in one call, as sequences of other lengths."""
        return (
            "flash" in kwargs["implementation"]
            and len({len(heads) for heads in self.groups.heads}) == 1 < len(self.groups.heads)
            and not kwargs["output_attentions"]
            and self.training_set.pattern is None
            and self.kernel is KERNELS["softmax"]
        )

    def _at_once(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, grid_size: tuple[int, int] | None
    ) -> torch.Tensor:
        """What each head puts out, `(batch, tokens, heads, head_dim)`, by one call of the back-end."""
        states = (self._split_heads(project(hidden_states)) for project in (self.q_proj, self.k_proj, self.v_proj))
        fold = self.transforms[0].of_heads() if self.transforms else None
        pooled = self.training_set.pooling(hidden_states, grid_size, centres=fold is not None and mask is None)
        dropout = self.attention_dropout if self.training else 0.0
        attend = partial(ALL_ATTENTION_FUNCTIONS["sdpa"], self, scaling=self.scaling, dropout=dropout)
        output, _ = attend_at_once(*states, mask, pooled, fold, attend)
        return output

    def _transform(
        self, query: torch.Tensor, keys: tuple, mask: torch.Tensor | None, masks: tuple, grid_size: Any
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Queries and keys of each group's heads, side by side, with T applied; `query` is of all groups."""
        transforms = list(self.transforms)
        if transforms and getattr(transforms[0], "folds", False):
            query, keys = transforms[0](query, keys, mask, masks, self.groups.gathered, grid_size)
        queries = self.groups.parts(query, self.head_dim)
        if not transforms or getattr(transforms[0], "folds", False):
            return queries, keys
        pairs = []
        for query, key, key_mask, heads in zip(queries, keys, masks, self.groups.heads, strict=True):
            for transform in transforms:
                query, key = transform(query, key, mask, key_mask, heads, grid_size)
            pairs.append((query, key))
        return tuple(zip(*pairs, strict=True))

    def _project_outputs(self, *outputs: torch.Tensor) -> torch.Tensor:
        """What the groups' outputs, `(batch, tokens, group_heads, head_dim)`, become together."""
        return self.o_proj(self.groups.join(outputs).flatten(2))  # (batch, tokens, width)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, heads * head_dim)` to `(batch, tokens, heads, head_dim)`."""
        return states.unflatten(-1, (-1, self.head_dim))


def _project_points(
    pool: Callable, to_key: Callable, to_value: Callable, hidden_states: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Keys and values of a group's heads, side by side, and which of them count."""
    points, mask = pool(hidden_states)  # (batch, points, width)
    return to_key(points), to_value(points), mask


def _counts_from_the_start(config: PrimalDualConfig) -> bool:
    """
    Whether what a token sees depends on where its row begins: with windows or blocks of tokens, and where a pattern or
    a convolution reaches from the prefix into the row. Of a transform from outside of this package nobody knows.
    """
    if config.grid_size is not None:
        return False
    _, transforms, training_set = config.choices
    reaches = "sparse" in training_set or "conv1d" in transforms
    return (
        "downsampled" in training_set
        or ("sparse" in training_set and "fixed" in config.sparse_pattern)
        or (reaches and config.num_prefix_tokens > 0)
        or any("." in name for name in transforms)
    )


__all__ = ["PrimalDualAttention"]
