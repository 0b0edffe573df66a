"""The dual variables of a trained model: what each attention layer's regression looks like from inside."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..modeling.kernels_primal_dual import feature_map
from .feature_maps import Kernel, feature_map_kernel, log_kernel
from .layers import attention_layers, evaluating, mask_of
from .regression import log_squared_weight_norm


@dataclass(frozen=True, eq=False)
class DualVariables:
    """
    The regressions of one attention layer, one for each row of the batch and each head (paper, section 2, Theorem 1).

    Heads may be fitted on different numbers of keys (Definition 2): `keys` is the largest, and what a head or a padded
    row lacks is zero and false in `mask`. All are float64, on the CPU.

    Attributes:
        layer (`int`): place among the model's attention layers.
        kernel (`str`): `"softmax"` or `"linear"`.
        queries, query_mask: T(q) `(batch, heads, tokens, head_dim)`, zero where `(batch, tokens)` is false: padding.
        keys, values (`torch.Tensor` of shape `(batch, heads, keys, head_dim)`): T(k) and v.
        mask (`torch.BoolTensor` of shape `(batch, heads, keys)`): true for the keys that the head was fitted on.
        log_normalizers (`torch.Tensor` of shape `(batch, heads, keys)`): log h(k_j), -inf where masked.
        log_squared_weight_norms (`torch.Tensor` of shape `(batch, heads)`): log ||W||_F^2.
    """

    layer: int
    kernel: str
    queries: torch.Tensor
    query_mask: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor
    log_normalizers: torch.Tensor
    log_squared_weight_norms: torch.Tensor

    @property
    def signs(self) -> torch.Tensor:
        """Of alpha - alpha~: which side of the tube a target lies on; shape of `values`."""
        return self.values.sign()

    @property
    def log_magnitudes(self) -> torch.Tensor:
        """log |alpha - alpha~|, of the shape of `values`; -inf for zero."""
        return self.values.abs().log() + self.log_normalizers.unsqueeze(-1)

    @property
    def coefficients(self) -> torch.Tensor:
        """alpha - alpha~ = v_j h(k_j), of the shape of `values`; infinite where h is beyond float64."""
        return self.signs * self.log_magnitudes.exp()

    @property
    def squared_weight_norms(self) -> torch.Tensor:
        """||W||_F^2 = sum_ij (v_i . v_j) K(k_i, k_j), of shape `(batch, heads)`; infinite beyond float64."""
        return self.log_squared_weight_norms.exp()

    def relative_magnitudes(self) -> torch.Tensor:
        """
        Largest |alpha_j - alpha~_j| over a key's outputs, as a share of the largest among the keys of the same row and
        head; shape `(batch, heads, keys)`.
        """
        magnitudes = self.log_magnitudes.amax(dim=-1)
        largest = magnitudes.amax(dim=-1, keepdim=True)
        return torch.where(magnitudes == -torch.inf, 0.0, (magnitudes - largest).exp())

    def support_vectors(self, tolerance: float = 1e-2) -> torch.Tensor:
        """
        Which keys matter, those with `relative_magnitudes()` above `tolerance`; shape `(batch, heads, keys)`, boolean.

        Training a model does not solve its regressions with a tube, so no coefficient is exactly zero and the
        tolerance decides.
        """
        if not 0 <= tolerance < 1:
            raise ValueError(f"`tolerance` must be at least 0 and below 1, got {tolerance}.")
        return self.relative_magnitudes() > tolerance


def dual_variables(
    model: nn.Module, inputs: Mapping[str, Any] | torch.Tensor, layer: int | None = None
) -> list[DualVariables]:
    """
    The dual variables of a model's attention layers on given inputs: alpha_j - alpha~_j = v_j h(k_j) with
    h(k_j) = sum_l K(T(k_j), T(k_l)) over the keys that the head was fitted on (paper, section 2, Theorem 1).

    The model runs once, in evaluation mode and in its own precision; what follows is float64.

    Args:
        model (`nn.Module`): a model with layers of `PrimalDualAttention`.
        inputs (mapping or `torch.Tensor`): keyword arguments of the model, or its only argument.
        layer (`int`, *optional*): which attention layer, counted from 0; by default all of them.

    Returns:
        One `DualVariables` for each layer asked for. Sparse layers, where each query has a regression, are refused.
    """
    attentions = attention_layers(model)
    if layer is not None and not 0 <= layer < len(attentions):
        raise ValueError(f"`layer` must be 0 to {len(attentions) - 1}, got {layer}.")
    chosen = dict(enumerate(attentions)) if layer is None else {layer: attentions[layer]}
    for index, attention in chosen.items():
        _kernel(attention)
        if "sparse" in attention.config.choices.training_set:
            raise ValueError(
                f"`model` must fit a head on one set of keys, but layer {index} is sparse "
                f"({attention.config.attention!r}): each query has a regression of its own."
            )
    with evaluating(model) as hooks, _recording(chosen.values(), hooks) as calls:
        if isinstance(inputs, Mapping):
            model(**inputs)
        else:
            model(inputs)
    return [_layer_result(index, attention, calls[attention]) for index, attention in chosen.items()]


@contextmanager
def _recording(attentions: Iterable[Any], hooks: list) -> Iterator[dict[nn.Module, list[tuple]]]:
    """
    Notes what each attention hands to its kernel, one entry for each group of heads, and the layer's own mask.

    A last batch normalization that is folded into the queries gives the same softmax but another h: meanwhile it is
    carried out on both sides.
    """
    calls: dict[nn.Module, list[tuple]] = {attention: [] for attention in attentions}
    kernels = {attention: attention.kernel for attention in attentions}
    folding = [t for attention in attentions for t in attention.transforms if getattr(t, "folds", False)]
    token_masks = {}

    def note_mask(attention: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        token_masks[attention] = mask_of(args, kwargs)

    def note_call(
        attention: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
    ) -> Any:
        calls[attention].append((query, key, value, mask, token_masks[attention]))
        return kernels[attention](attention, query, key, value, mask, **kwargs)

    try:
        for attention in attentions:
            hooks.append(attention.register_forward_pre_hook(note_mask, with_kwargs=True))
            attention.kernel = note_call
        for transform in folding:
            transform.folds = False
        yield calls
    finally:
        for attention, kernel in kernels.items():
            attention.kernel = kernel
        for transform in folding:
            transform.folds = True


def _kernel(attention: nn.Module) -> Kernel:
    name = attention.config.choices.kernel
    if name == "softmax":
        return name
    if name == "linear":
        # The name of elu + 1 stands for it in the theory, without a rounding to zero.
        phi = attention.config.feature_map
        return "linear" if phi == "elu+1" else feature_map_kernel(feature_map(phi))
    raise ValueError(f"`model` must use the kernel 'softmax' or 'linear', got {name!r}.")


def _layer_result(index: int, attention: nn.Module, calls: list[tuple]) -> DualVariables:
    """What was recorded of one layer, its groups of heads put side by side in the heads' own order."""
    groups = attention.groups.heads
    if len(calls) != len(groups):
        raise ValueError(f"`model` must call attention layer {index} once, got {len(calls) / len(groups):g} calls.")
    batch, _, tokens, head_dim = calls[0][0].shape
    shape = (batch, attention.num_heads, max(call[1].shape[2] for call in calls), head_dim)
    queries = torch.zeros(batch, attention.num_heads, tokens, head_dim, dtype=torch.float64)
    keys, values = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    mask = torch.zeros(shape[:3], dtype=torch.bool)
    for heads, (query, key, value, key_mask, _) in zip(groups, calls, strict=True):
        points = key.shape[2]
        queries[:, heads] = query.to("cpu", torch.float64)
        keys[:, heads, :points] = key.to("cpu", torch.float64)
        values[:, heads, :points] = value.to("cpu", torch.float64)
        mask[:, heads, :points] = True if key_mask is None else key_mask.cpu()[:, None]

    token_mask = calls[0][-1]
    query_mask = torch.ones(batch, tokens, dtype=torch.bool) if token_mask is None else token_mask.cpu().bool()
    kernel = _kernel(attention)
    log_normalizers = torch.full(shape[:3], -torch.inf, dtype=torch.float64)
    log_norms = torch.empty(shape[:2], dtype=torch.float64)
    # One head at a time: this bounds the memory, and leaves padding out instead of masking it.
    for row, head in torch.cartesian_prod(torch.arange(shape[0]), torch.arange(shape[1])).tolist():
        kept = mask[row, head]
        points = keys[row, head, kept]
        log_gram = log_kernel(kernel, points, points)
        log_normalizers[row, head, kept] = log_gram.logsumexp(dim=1)
        log_norms[row, head] = log_squared_weight_norm(log_gram, values[row, head, kept])
    keys, values = (states.masked_fill(~mask.unsqueeze(-1), 0.0) for states in (keys, values))
    queries = queries * query_mask[:, None, :, None]
    kernel = attention.config.choices.kernel
    return DualVariables(index, kernel, queries, query_mask, keys, values, mask, log_normalizers, log_norms)
