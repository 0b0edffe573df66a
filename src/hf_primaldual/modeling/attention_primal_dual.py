"""PrimalDualAttention: the kernel, the transforms and the training set of a configuration, put together."""

import torch
from torch import nn

from .configuration_primal_dual import PrimalDualConfig
from .extensions_primal_dual import EXTENSIONS
from .kernels_primal_dual import KERNELS, feature_map
from .training_sets_primal_dual import TRAINING_SETS, check_mask
from .transforms_primal_dual import TRANSFORMS, GridConvolution


def project_rows(linear: nn.Module, inputs: torch.Tensor, rows: slice | list[int] | None) -> torch.Tensor:
    """
    The output channels `rows` of a linear layer, at the cost of those rows alone; `None` is all of them.

    A layer that is more than its weight and bias (a LoRA adapter, a quantized or an offloaded layer, one with hooks)
    is called as a whole and its output cut, so that nothing of it is lost.
    """
    if rows is None:
        return linear(inputs)
    is_plain = (
        type(linear) is nn.Linear
        and "forward" not in vars(linear)
        and not (linear._forward_hooks or linear._forward_pre_hooks)
        and not (linear._backward_hooks or linear._backward_pre_hooks)
    )
    if not is_plain:
        return linear(inputs)[..., rows]
    bias = None if linear.bias is None else linear.bias[rows]
    return nn.functional.linear(inputs, linear.weight[rows], bias)


def build_transform(name: str, config: PrimalDualConfig) -> nn.Module:
    """
    The module of a transform's name.

    Raises:
        ValueError: for a transform from outside of this package that nobody has registered.
    """
    # Conv2D has two readings, of which the configuration picks one.
    if name == "conv2d" and config.conv2d_reading == "grid":
        return GridConvolution(config)
    known = TRANSFORMS | EXTENSIONS
    if name not in known:
        raise ValueError(
            f"`transforms` names {name!r}, which is neither one of {', '.join(TRANSFORMS)} nor registered; pass its "
            "class to `hf_primaldual.theory.PrimalLayer` first."
        )
    return known[name](config)


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
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        # What transformers' back-ends ask of a layer.
        self.is_causal = False

        kernel, transforms, training_set = config.choices
        self.kernel = KERNELS[kernel]
        if kernel == "linear":
            # An unknown name is refused now and not in the first forward.
            feature_map(config.feature_map)
        self.transforms = nn.ModuleList(build_transform(name, config) for name in transforms)
        # Softmax ignores what is constant over the keys, so that a last batch normalization folds into the queries.
        self.folds_last = kernel == "softmax" and bool(transforms) and hasattr(self.transforms[-1], "fold")
        self.training_set = TRAINING_SETS[training_set](config)

        groups = self.training_set.head_groups
        self.group_rows = [None] if len(groups) == 1 else [self._rows(heads) for heads in groups]
        order = [head for heads in groups for head in heads]
        # Heads of one factor need not be neighbours: queries are brought into the order of the groups, outputs back.
        self.grouped_order = None if order == sorted(order) else order
        self.original_order = [order.index(head) for head in range(self.num_heads)]

        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(width, width)

    def _rows(self, heads: list[int]) -> slice | list[int]:
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
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, ...] | None]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for a real token, 0 for padding.
            mask_is_checked (`bool`): the mask went through `check_mask`, as a model does once for all its layers.
            grid_size (`tuple[int, int]`, *optional*): height and width in patches of these images, where they are not
                the configuration's.
            kwargs: `output_attentions=True` for the maps, which eager then computes; the rest goes to the back-end.

        Returns:
            The output of shape `(batch, tokens, width)`; and the attention maps, or `None` where the back-end does not
            form them. Where all heads see the same keys the maps are one tensor `(batch, heads, tokens, keys)`, and
            where heads differ in their scale or points a tuple with one tensor for each head, `(batch, tokens, keys)`.

        Raises:
            ValueError: when `hidden_states` or `attention_mask` have another shape, a row has no real token, or the
                grid and the prefix do not make up the tokens.
        """
        shape = hidden_states.shape
        if len(shape) != 3 or shape[1] == 0 or shape[2] != self.config.hidden_size:
            raise ValueError(
                f"`hidden_states` must have shape (batch, tokens, {self.config.hidden_size}) with at least one token, "
                f"got {tuple(shape)}."
            )
        if attention_mask is not None and not mask_is_checked:
            attention_mask = check_mask(attention_mask, hidden_states)

        query = self.q_proj(hidden_states)
        groups = self.training_set(hidden_states, attention_mask, grid_size)
        outputs, maps = [], []
        for group, rows, group_query in zip(groups, self.group_rows, self._split_query(query), strict=True):
            key = project_rows(self.k_proj, group.points, rows)
            value = project_rows(self.v_proj, group.points, rows)
            for transform in self.transforms[:-1] if self.folds_last else self.transforms:
                grid = {"grid_size": grid_size} if isinstance(transform, GridConvolution) else {}
                group_query, key = transform(group_query, key, attention_mask, group.mask, group.heads, **grid)
            if self.folds_last:
                group_query, key = self.transforms[-1].fold(group_query, key, group.mask, group.heads)
            if group.order is not None:
                group_query = group_query[:, group.order.tokens]
            output, weights = self.kernel(
                self,
                self._split_heads(group_query),
                self._split_heads(key),
                self._split_heads(value),
                group.mask,
                scaling=self.scaling,
                dropout=self.attention_dropout if self.training else 0.0,
                **({} if group.pattern is None else {"pattern": group.pattern}),
                **kwargs,
            )
            if group.order is not None:
                output = output[:, group.order.places]
                weights = None if weights is None else weights[:, :, group.order.places]
            outputs.append(output)
            maps.append(weights)

        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
        if self.grouped_order is not None:
            output = output[:, :, self.original_order]
        output = self.o_proj(output.flatten(2))
        return output, self._collect_maps(maps)

    def _split_query(self, query: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(self.group_rows) == 1:
            return (query,)
        if self.grouped_order is not None:
            query = query.unflatten(-1, (self.num_heads, self.head_dim))[:, :, self.grouped_order].flatten(2)
        return query.split([len(heads) * self.head_dim for heads in self.training_set.head_groups], dim=-1)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _collect_maps(self, maps: list[torch.Tensor | None]) -> torch.Tensor | tuple[torch.Tensor, ...] | None:
        if maps[0] is None:
            return None
        if len(maps) == 1:
            return maps[0]
        per_head = [head for group in maps for head in group.unbind(dim=1)]
        return tuple(per_head[head] for head in self.original_order)


__all__ = ["PrimalDualAttention", "project_rows"]
