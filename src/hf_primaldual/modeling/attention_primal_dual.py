"""PrimalDualAttention: the kernel, the transforms and the training set of a configuration, put together."""

import torch
from torch import nn

from .annealing_primal_dual import Annealing, at_progress, words_of
from .configuration_primal_dual import PrimalDualConfig
from .extensions_primal_dual import EXTENSIONS
from .kernels_primal_dual import KERNELS, feature_map
from .keywords_primal_dual import check_keywords
from .memory_primal_dual import join_heads, keeps_less, project_joined, project_points
from .padding_primal_dual import row_starts as starts_of
from .padding_primal_dual import shift_rows
from .training_sets_primal_dual import TRAINING_SETS, HeadGroup, check_mask
from .transforms_primal_dual import TRANSFORMS, GridConvolution, KeyBatchNorm


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
        return linear(inputs)[..., rows]
    return nn.functional.linear(inputs, *rows_of(linear, rows))


def rows_of(linear: nn.Linear, rows: slice | list[int] | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight and the bias of output channels of a linear layer; `None` is all of them."""
    if rows is None:
        return linear.weight, linear.bias
    return linear.weight[rows], None if linear.bias is None else linear.bias[rows]


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
        self._built_from = config.attention_fields()
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        # What transformers' back-ends ask of a layer.
        self.is_causal = False

        kernel, transforms, _ = config.choices
        self.kernel = KERNELS[kernel]
        if kernel == "linear":
            # An unknown name is refused now and not in the first forward.
            feature_map(config.feature_map)
        self.annealing = Annealing() if config.annealed else None
        self._progress = None if self.annealing is None else 0.0
        moved = self._moved_config()
        self.transforms = nn.ModuleList(build_transform(name, moved) for name in transforms)
        # Softmax ignores what is constant over the keys, so that a last batch normalization folds into the queries.
        self.folds_last = kernel == "softmax" and transforms[-1:] == ("bn",)
        self._build_training_set(moved)
        self.turns_rows = _counts_from_the_start(config)
        if self.annealing is not None:
            self.register_load_state_dict_post_hook(_follow)

        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(width, width)

    def _moved_config(self) -> PrimalDualConfig:
        """The configuration at the place that a conversion has reached."""
        return self.config if self._progress is None else at_progress(self.config, self._progress)

    def _build_training_set(self, config: PrimalDualConfig) -> None:
        self.training_set = TRAINING_SETS[config.choices.training_set](config)
        groups = self.training_set.head_groups
        self.group_rows = [None] if len(groups) == 1 else [self._rows(heads) for heads in groups]
        order = [head for heads in groups for head in heads]
        # Heads of one factor need not be neighbours: queries are brought into the order of the groups, outputs back.
        self.grouped_order = None if order == sorted(order) else order
        self.original_order = [order.index(head) for head in range(self.num_heads)]

    def follow_annealing(self) -> None:
        """Takes beta, the scaling and the heads' factors or points from where the conversion is now."""
        progress = self.annealing()
        if progress is None or progress == self._progress:
            return
        self._progress = progress
        config = self._moved_config()
        self._build_training_set(config)
        # One that PEFT trains lies inside of its wrapper.
        for module in self.transforms.modules():
            if isinstance(module, KeyBatchNorm):
                module.retune(config)

    def extra_repr(self) -> str:
        if self.annealing is None:
            return f"attention={self.config.attention!r}"
        return f"attention={self.config.attention!r}, {words_of(self.annealing())}"

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
            kwargs: `output_attentions=True` for the maps, which eager then computes; `kernel_options` go to the
                back-end.

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
        prefix = self.config.num_prefix_tokens
        if attention_mask is not None and not mask_is_checked:
            attention_mask = check_mask(attention_mask, hidden_states)
            row_starts = starts_of(attention_mask, prefix)
        if self.annealing is not None and not torch.compiler.is_compiling():
            self.follow_annealing()
        # What is padded on the left has its windows where it would have them alone.
        turned = row_starts is not None and self.turns_rows
        if turned:
            hidden_states = shift_rows(hidden_states, row_starts, prefix)
            attention_mask = shift_rows(attention_mask, row_starts, prefix)

        query = self.q_proj(hidden_states)
        groups = self.training_set(hidden_states, attention_mask, grid_size)
        outputs, maps = [], []
        for group, rows, group_query in zip(groups, self.group_rows, self._split_query(query), strict=True):
            key, value = self._project_points(group, rows, hidden_states)
            for transform in self.transforms[:-1] if self.folds_last else self.transforms:
                grid = {"grid_size": grid_size} if isinstance(transform, GridConvolution) else {}
                group_query, key = transform(group_query, key, attention_mask, group.mask, group.heads, **grid)
            if self.folds_last:
                masks = attention_mask, group.mask
                group_query, key = self.transforms[-1](group_query, key, *masks, group.heads, folded=True)
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

        if turned:
            outputs = [shift_rows(output, row_starts, prefix, back=True) for output in outputs]
            maps = [self._turn_back(weights, row_starts, hidden_states.shape[1]) for weights in maps]
        order = None if self.grouped_order is None else self.original_order
        if len(outputs) > 1 and keeps_less(hidden_states) and is_plain(self.o_proj):
            output = project_joined(outputs, order, self.o_proj.weight, self.o_proj.bias)
        else:
            output = self.o_proj(join_heads(outputs, order))
        return output, self._collect_maps(maps)

    def _project_points(
        self, group: HeadGroup, rows: slice | list[int] | None, hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a group's heads, side by side."""
        is_pooled = group.pool is not None
        if is_pooled and keeps_less(hidden_states) and is_plain(self.k_proj) and is_plain(self.v_proj):
            weights = (*rows_of(self.k_proj, rows), *rows_of(self.v_proj, rows))
            return project_points(group.points, hidden_states, group.pool, *weights)
        return project_rows(self.k_proj, group.points, rows), project_rows(self.v_proj, group.points, rows)

    def _turn_back(self, weights: torch.Tensor | None, starts: torch.Tensor, tokens: int) -> torch.Tensor | None:
        """
        Maps of turned rows in the order of their tokens. Keys that are tokens are turned back too; windows stay
        counted from a row's first real token.
        """
        if weights is None:
            return None
        prefix = self.config.num_prefix_tokens
        weights = shift_rows(weights.transpose(1, 2), starts, prefix, back=True).transpose(1, 2)
        if weights.shape[3] != tokens:
            return weights
        return shift_rows(weights.permute(0, 3, 1, 2), starts, prefix, back=True).permute(0, 2, 3, 1)

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


def _follow(attention: PrimalDualAttention, _) -> None:
    """After weights were loaded: a compiled forward looks at no buffer."""
    attention.follow_annealing()


__all__ = ["PrimalDualAttention", "project_rows"]
