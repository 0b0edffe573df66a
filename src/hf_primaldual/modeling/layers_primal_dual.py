"""What the encoders are made of: norms, the feed-forward block, the layer, and what their heads share."""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_primal_dual import PrimalDualAttention
from .batch_norm_primal_dual import token_statistics
from .causal_attention_primal_dual import PrimalDualCausalAttention
from .configuration_primal_dual_models import PrimalDualEncoderConfig
from .padding_primal_dual import can_look


class TokenLayerNorm(nn.LayerNorm):
    """Layer normalization with the signature of `TokenBatchNorm`; each token is normalized alone."""

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(hidden_states)


class TokenBatchNorm(nn.BatchNorm1d):
    """
    Batch normalization of each channel over all real tokens of the batch, `(batch, tokens, width)`; padding does not
    count. Running averages are kept for evaluation, as in `nn.BatchNorm1d`. In half precision they would lose the
    small steps that they move by: in a model that is built in it or cast to it, this module stays in float32.

    A norm whose weight is frozen normalizes by its averages, which then stay as they are: whoever freezes a model, as
    LoRA does, saves no averages of it that training could have moved.
    """

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__(num_features, eps=eps, dtype=torch.promote_types(torch.get_default_dtype(), torch.float32))

    def _apply(self, fn, recurse=True):
        # `to`, `half` and `bfloat16` come here with what they do to each tensor.
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            is_halved = moved.is_floating_point() and moved.itemsize < 4 <= tensor.itemsize
            return tensor.to(moved.device) if is_halved else moved

        return super()._apply(apply, recurse)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if not (self.training and self.weight.requires_grad):
            rows = hidden_states.flatten(0, 1)
            normalized = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return normalized.view_as(hidden_states)
        mean, variance, centred = token_statistics(
            hidden_states.flatten(0, 1).unsqueeze(0), None if mask is None else mask.reshape(1, -1)
        )
        if not _is_recomputing():
            self._update_running_averages(mean.detach().flatten(), variance.detach().flatten(), hidden_states, mask)
        normalized = centred * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normalized.view_as(hidden_states).to(hidden_states.dtype)

    @torch.no_grad()
    def _update_running_averages(self, mean, variance, hidden_states, mask) -> None:
        batch, tokens, _ = hidden_states.shape
        count = variance.new_full((), batch * tokens) if mask is None else mask.sum()
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


def _is_recomputing() -> bool:
    """Whether gradient checkpointing is running a forward for the second time, which it does inside the backward."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


NORMS = {"batch": TokenBatchNorm, "layer": TokenLayerNorm}


class PrimalDualMLP(nn.Module):
    """The feed-forward block."""

    def __init__(self, config: PrimalDualEncoderConfig):
        super().__init__()
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.dropout(self.activation_fn(self.fc1(hidden_states))))


class LayerScale(nn.Module):
    """Scales each channel of a residual branch by a learned factor (Touvron et al., 2021)."""

    def __init__(self, config: PrimalDualEncoderConfig):
        super().__init__()
        self.initial_value = config.layer_scale_init_value
        self.weight = nn.Parameter(torch.full((config.hidden_size,), float(self.initial_value)))

    def reset_parameters(self) -> None:
        init.constant_(self.weight, self.initial_value)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.weight


class DropPath(nn.Module):
    """Leaves out a residual branch for some rows of a batch in training: stochastic depth (Huang et al., 2016)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return hidden_states
        kept = hidden_states.new_empty(hidden_states.shape[0], 1, 1).bernoulli_(1 - self.rate)
        return hidden_states * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class PrimalDualLayer(GradientCheckpointingLayer):
    """Attention and feed-forward block, each with its residual sum and its norm after or before."""

    def __init__(self, config: PrimalDualEncoderConfig, layer_idx: int):
        super().__init__()
        norm = NORMS[config.norm_type]
        self.pre_norm = config.norm_position == "pre"
        attention = PrimalDualCausalAttention if getattr(config, "is_decoder", False) else PrimalDualAttention
        self.self_attn = attention(config, layer_idx)
        self.norm1 = norm(config.hidden_size, eps=config.norm_eps)
        self.mlp = PrimalDualMLP(config)
        self.norm2 = norm(config.hidden_size, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        has_scale = config.layer_scale_init_value is not None
        self.layer_scale1 = LayerScale(config) if has_scale else nn.Identity()
        self.layer_scale2 = LayerScale(config) if has_scale else nn.Identity()
        # The deeper the layer, the more often it is left out, from never for the first one.
        rate = config.drop_path_rate * layer_idx / max(config.num_hidden_layers - 1, 1)
        self.drop_path = DropPath(rate) if rate else nn.Identity()

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
            attention_mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): from `check_mask`.
            kwargs: as for [`PrimalDualAttention`], `row_starts` of this mask among them.

        Returns:
            `torch.Tensor` of shape `(batch, tokens, width)`.
        """
        mask = attention_mask
        if self.pre_norm:
            attended, _ = self.self_attn(self.norm1(hidden_states, mask), mask, mask_is_checked=True, **kwargs)
            hidden_states = hidden_states + self._branch(attended, self.layer_scale1)
            return hidden_states + self._branch(self.mlp(self.norm2(hidden_states, mask)), self.layer_scale2)
        attended, _ = self.self_attn(hidden_states, mask, mask_is_checked=True, **kwargs)
        hidden_states = self.norm1(hidden_states + self._branch(attended, self.layer_scale1), mask)
        return self.norm2(hidden_states + self._branch(self.mlp(hidden_states), self.layer_scale2), mask)

    def _branch(self, hidden_states: torch.Tensor, layer_scale: nn.Module) -> torch.Tensor:
        """What a residual branch goes through before it is added."""
        return self.drop_path(layer_scale(self.dropout(hidden_states)))


def build_layers(config: PrimalDualEncoderConfig) -> tuple[nn.ModuleList, nn.Module | None]:
    """An encoder's layers, and the norm behind the last one where norms come before the sublayers."""
    layers = nn.ModuleList(PrimalDualLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers))
    if config.norm_position == "post":
        return layers, None
    return layers, NORMS[config.norm_type](config.hidden_size, eps=config.norm_eps)


def mean_over_tokens(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The average of the real tokens, `(batch, width)`."""
    if attention_mask is None:
        return hidden_states.mean(dim=1)
    weight = attention_mask.to(hidden_states.dtype).unsqueeze(-1)
    # A sum over thousands of tokens would overflow float16.
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    total = (hidden_states * weight).sum(dim=1, dtype=dtype) / weight.sum(dim=1, dtype=dtype)
    return total.to(hidden_states.dtype)


def classification_loss(
    labels: torch.Tensor,
    pooled_logits: torch.Tensor,
    config: PrimalDualEncoderConfig,
    num_items_in_batch: torch.Tensor | int | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """
    The loss that transformers gives a classifier of sequences: cross-entropy, binary cross-entropy of several labels
    at once, or the squared error of a regression, by `config.problem_type`, which the labels decide where it is unset.

    It is a mean over a batch; or, where Trainer accumulates gradients, the sum over it divided by the number of labels
    of all batches of a step. transformers' own divides so for one label an example alone, so that of the other two
    Trainer's steps grow with the number of batches.

    Args:
        labels (`torch.Tensor`): see [`check_labels`].
        pooled_logits (`torch.Tensor` of shape `(batch, num_labels)`).
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): the labels of all batches of a step.
    """
    problem_type = problem_type_of(labels, config)
    if config.problem_type is None:
        config.problem_type = problem_type
    # In half precision a sum of squares overflows.
    logits, labels = pooled_logits.float(), labels.to(pooled_logits.device)
    reduction = "mean" if num_items_in_batch is None else "sum"
    if problem_type == "single_label_classification":
        loss = nn.functional.cross_entropy(logits, labels.view(-1).long(), reduction=reduction)
    elif problem_type == "multi_label_classification":
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction=reduction)
    else:
        loss = nn.functional.mse_loss(logits, labels.float().view_as(logits), reduction=reduction)
    if num_items_in_batch is None:
        return loss
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(loss.device)
    return loss / num_items_in_batch


def problem_type_of(labels: torch.Tensor, config: PrimalDualEncoderConfig) -> str:
    """The configuration's `problem_type`; where it is unset, as transformers decides it by the labels."""
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    is_index = labels.dtype in (torch.int64, torch.int32)
    return "single_label_classification" if is_index else "multi_label_classification"


def check_labels(labels: torch.Tensor | None, config: PrimalDualEncoderConfig, batch: int) -> None:
    """
    Args:
        labels (`torch.Tensor`, *optional*): classes, `(batch,)`, -100 for an example that is left out; of several
            labels at once 0 or 1 for each, or between, `(batch, num_labels)`; of a regression numbers, `(batch,)` or
            `(batch, num_labels)`.
        batch (`int`): the number of examples.

    Raises:
        ValueError: for another shape, a label outside the classes, or a number that is not finite. Values are looked
            at on a CPU; on other devices that would wait for them.
    """
    if labels is None:
        return
    problem_type, count = problem_type_of(labels, config), config.num_labels
    why = f"(`problem_type` {problem_type!r}, `num_labels` = {count})"
    shapes = [(batch, count)] if problem_type != "single_label_classification" else [(batch,), (batch, 1)]
    if problem_type == "regression" and count == 1:
        shapes.append((batch,))
    if tuple(labels.shape) not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise ValueError(f"`labels` must have shape {allowed} {why}, got {tuple(labels.shape)}.")
    if problem_type == "single_label_classification" and labels.is_floating_point():
        raise ValueError(f"`labels` must be whole numbers {why}, got {labels.dtype}.")
    if labels.device.type != "cpu" or not can_look(labels):
        return
    if problem_type == "single_label_classification":
        # -100 is what transformers and torch leave out of a loss.
        allowed, range_words = ((labels >= 0) & (labels < count)) | (labels == -100), f"lie in 0 to {count - 1}"
    elif problem_type == "multi_label_classification":
        allowed, range_words = (labels >= 0) & (labels <= 1), "lie in 0 to 1"
    else:
        allowed, range_words = labels.isfinite(), "be finite"
    if not allowed.all():
        raise ValueError(f"`labels` must {range_words} {why}, got {labels[~allowed][0].item()}.")


__all__ = [
    "NORMS",
    "LayerScale",
    "PrimalDualLayer",
    "PrimalDualMLP",
    "TokenBatchNorm",
    "TokenLayerNorm",
    "build_layers",
    "check_labels",
    "classification_loss",
    "mean_over_tokens",
]
