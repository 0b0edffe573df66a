"""What the encoders are made of: norms, the feed-forward block, the layer, and what their heads share."""

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_primal_dual import PrimalDualAttention
from .configuration_primal_dual_models import PrimalDualEncoderConfig
from .transforms_primal_dual import token_statistics


class TokenLayerNorm(nn.LayerNorm):
    """Layer normalization with the signature of `TokenBatchNorm`; each token is normalized alone."""

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(hidden_states)


class TokenBatchNorm(nn.BatchNorm1d):
    """
    Batch normalization of each channel over all real tokens of the batch, `(batch, tokens, width)`; padding does not
    count. Running averages are kept for evaluation, as in `nn.BatchNorm1d`, and in float32.
    """

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if not self.training:
            return super().forward(hidden_states.flatten(0, 1)).view_as(hidden_states)
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
        self.is_gelu = config.hidden_act == "gelu"

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.fc1(hidden_states)
        if self._may_overwrite():
            hidden_states = torch.ops.aten.gelu_(hidden_states)
        else:
            hidden_states = self.activation_fn(hidden_states)
        return self.fc2(self.dropout(hidden_states))

    def _may_overwrite(self) -> bool:
        """
        Whether the widest tensor of a layer may be activated in its own memory, which on a CPU saves some 3 % of an
        inference: nothing is differentiated, and nobody else looks at it.
        """
        return (
            self.is_gelu
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and type(self.fc1) is nn.Linear
            and not self.fc1._forward_hooks
        )


class LayerScale(nn.Module):
    """Scales each channel of a residual branch by a learned factor (Touvron et al., 2021)."""

    def __init__(self, config: PrimalDualEncoderConfig):
        super().__init__()
        self.initial_value = config.layer_scale_init_value
        self.weight = nn.Parameter(torch.full((config.hidden_size,), float(self.initial_value)))

    def reset_parameters(self):
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
        self.self_attn = PrimalDualAttention(config, layer_idx)
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
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`).
            attention_mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): from `check_mask`.
            kwargs: as for [`PrimalDualAttention`].

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


def check_labels(labels: torch.Tensor | None, config: PrimalDualEncoderConfig) -> None:
    """
    Raises:
        ValueError: for a label outside the classes (looked at on a CPU; on other devices that would wait for them).
    """
    single_label = config.problem_type in (None, "single_label_classification")
    if labels is None or labels.device.type != "cpu" or labels.is_floating_point() or not single_label:
        return
    if torch.compiler.is_compiling():
        return
    # -100 is what transformers and torch leave out of a loss.
    outside = labels[((labels < 0) & (labels != -100)) | (labels >= config.num_labels)]
    if len(outside):
        raise ValueError(
            f"`labels` must lie in 0 to {config.num_labels - 1} (`num_labels` = {config.num_labels}), got "
            f"{outside[0].item()}."
        )


__all__ = [
    "NORMS",
    "LayerScale",
    "PrimalDualLayer",
    "PrimalDualMLP",
    "TokenBatchNorm",
    "TokenLayerNorm",
    "build_layers",
    "check_labels",
    "mean_over_tokens",
]
