"""PrimalDualAttention: the kernel, the transforms and the training set of a configuration, put together."""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from .configuration_primal_dual import PrimalDualConfig
from .extensions_primal_dual import EXTENSIONS
from .head_groups_primal_dual import take
from .kernels_primal_dual import KERNELS, feature_map
from .keywords_primal_dual import check_keywords
from .maps_primal_dual import MapLayout
from .memory_primal_dual import recomputed_in_backward
from .padding_primal_dual import row_starts as starts_of
from .padding_primal_dual import shift_rows
from .training_sets_primal_dual import TRAINING_SETS, check_mask
from .transforms_primal_dual import TRANSFORMS


def is_plain(linear: nn.Module) -> bool:
    """
    Whether a linear layer is no more than its weight and bias: no LoRA adapter, no quantized or offloaded layer, and
    none with hooks.
    """
    return (
        type(linear) is nn.Linear
        and "forward" not in vars(linear)
        and not (linear._forward_hooks or linear._forward_pre_hooks)
        and not (linear._backward_hooks or linear._backward_pre_hooks)
    )


def project_rows(linear: nn.Module, inputs: torch.Tensor, rows: slice | list[int] | None) -> torch.Tensor:
    """
    The output channels `rows` of a linear layer, at the cost of those rows alone; `None` is all of them.

    A layer that is more than its weight and bias is called as a whole and its output cut, so that nothing of it is
    lost.
    """
    if rows is None:
        return linear(inputs)
    if not is_plain(linear):
        return _cut(linear(inputs), rows, dim=-1)
    bias = None if linear.bias is None else _cut(linear.bias, rows)
    return nn.functional.linear(inputs, _cut(linear.weight, rows), bias)


def _cut(states: torch.Tensor, rows: slice | list[int], dim: int = 0) -> torch.Tensor:
    if isinstance(rows, slice):
        return states.narrow(dim, rows.start, rows.stop - rows.start)
    return take(states, rows, dim)


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

        kernel = config.choices.kernel
        self.kernel = KERNELS[kernel]
        if kernel == "linear":
            # An unknown name is refused now and not in the first forward.
            feature_map(config.feature_map)
        self.transforms = build_transforms(config)
        self.training_set = TRAINING_SETS[config.choices.training_set](config.of_layer(layer_idx))
        self.groups = self.training_set.groups
        self.group_rows = [self._rows(heads) for heads in self.groups.heads]
        self.turns_rows = _counts_from_the_start(config)

        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(width, width)

    def extra_repr(self) -> str:
        return f"attention={self.config.attention!r}"

    def _rows(self, heads: list[int]) -> slice | list[int] | None:
        """The output channels of a projection that belong to heads; `None` for all."""
        if len(heads) == self.num_heads:
            return None
        start, stop = heads[0] * self.head_dim, (heads[-1] + 1) * self.head_dim
        if stop - start == len(heads) * self.head_dim:
            return slice(start, stop)
        return [head * self.head_dim + channel for head in heads for channel in range(self.head_dim)]

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_is_checked: bool = False,
        grid_size: tuple[int, int] | None = None,
        row_starts: torch.Tensor | None = None,
        **kwargs,
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
        if len(shape) != 3 or shape[1] == 0 or shape[2] != self.config.hidden_size:
            raise ValueError(
                f"`hidden_states` must have shape (batch, tokens, {self.config.hidden_size}) with at least one token, "
                f"got {tuple(shape)}."
            )
        prefix = self.config.num_added_tokens
        if attention_mask is not None and not mask_is_checked:
            attention_mask = check_mask(attention_mask, hidden_states)
            row_starts = starts_of(attention_mask, prefix)
        # What is padded on the left has its windows where it would have them alone.
        turned = row_starts is not None and self.turns_rows
        if turned:
            hidden_states = shift_rows(hidden_states, row_starts, prefix)
            attention_mask = shift_rows(attention_mask, row_starts, prefix)

        kwargs.setdefault("output_attentions", self.config.output_attentions)
        layout = MapLayout(len(self.group_rows) > 1, row_starts if turned else None, prefix)
        queries = self.groups.split(self._split_heads(self.q_proj(hidden_states)))
        groups = self.training_set(hidden_states, attention_mask, grid_size)
        outputs, maps = [], []
        for query, group, rows in zip(queries, groups, self.group_rows, strict=True):
            query = query.flatten(2)  # (batch, tokens, group_heads * head_dim)
            project = partial(self._project_points, group.pool, rows)
            # (batch, points, group_heads * head_dim) twice, and (batch, points)
            key, value, mask = recomputed_in_backward(project, hidden_states, saves=group.is_pooled)
            for transform in self.transforms:
                query, key = transform(query, key, attention_mask, mask, group.heads, grid_size)
            output, weights = self.kernel(
                self,
                self._split_heads(query).transpose(1, 2),  # (batch, group_heads, tokens, head_dim)
                self._split_heads(key).transpose(1, 2),  # (batch, group_heads, points, head_dim)
                self._split_heads(value).transpose(1, 2),
                mask,
                scaling=self.scaling,
                dropout=self.attention_dropout if self.training else 0.0,
                pattern=group.pattern,
                order=group.order,
                layout=layout,
                **kwargs,
            )
            outputs.append(output)  # (batch, tokens, group_heads, head_dim)
            maps.append(weights)  # (batch, group_heads, tokens, points), or a tuple of (batch, tokens, points)
        if turned:
            outputs = [shift_rows(output, row_starts, prefix, back=True) for output in outputs]
        output = recomputed_in_backward(self._project_outputs, *outputs, saves=len(outputs) > 1)
        return output, self.groups.collect(maps)

    def _project_points(
        self, pool: Callable, rows: slice | list[int] | None, hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Keys and values of a group's heads, side by side, and which of them count."""
        points, mask = pool(hidden_states)  # (batch, points, width)
        return project_rows(self.k_proj, points, rows), project_rows(self.v_proj, points, rows), mask

    def _project_outputs(self, *outputs: torch.Tensor) -> torch.Tensor:
        """What the groups' outputs, `(batch, tokens, group_heads, head_dim)`, become together."""
        return self.o_proj(self.groups.join(outputs).flatten(2))  # (batch, tokens, width)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, heads * head_dim)` to `(batch, tokens, heads, head_dim)`."""
        return states.unflatten(-1, (-1, self.head_dim))


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


__all__ = ["PrimalDualAttention", "project_rows"]
