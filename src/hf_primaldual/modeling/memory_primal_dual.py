"""
Steps of a layer that keep less for the backward than autograd would: what is pooled, joined or transformed is found
anew there from tensors that are kept anyway. They are for long sequences, where memory is what ends first; on short
ones plain autograd makes fewer calls.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.autograd import forward_ad

# From so many tokens on; a training on shorter sequences is plain autograd's to the bit.
LONG = 2048


def keeps_less(states: torch.Tensor) -> bool:
    """
    Whether states of shape `(batch, tokens, channels)` are long enough, and a backward comes. A compiled graph decides
    by itself what it computes twice, and a derivative in forward mode keeps nothing.
    """
    # The length is looked at last: in an exported graph it would be fixed by that.
    return (
        not torch.compiler.is_compiling()
        and torch.is_grad_enabled()
        and states.shape[1] >= LONG
        and forward_ad.unpack_dual(states).tangent is None
    )


def project_points(
    points: torch.Tensor,
    source: torch.Tensor,
    pool: Callable[[torch.Tensor], torch.Tensor],
    key_weight: torch.Tensor,
    key_bias: torch.Tensor | None,
    value_weight: torch.Tensor,
    value_bias: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Keys and values of pooled points. The projections' weights need the points for their gradients, and find them anew
    from `source`, which the projection of the queries keeps anyway.

    Args:
        points (`torch.Tensor` of shape `(batch, points, width)`): `pool(source)`, whose gradient goes its own way.
        source (`torch.Tensor` of shape `(batch, tokens, width)`): the layer's input.
        pool (`Callable`): how the points come from it.
        key_weight, value_weight (`torch.Tensor` of shape `(channels, width)`).
        key_bias, value_bias (`torch.Tensor` of shape `(channels,)`, *optional*).

    Returns:
        Keys and values of shape `(batch, points, channels)`.
    """
    return _ProjectPoints.apply(points, source, pool, key_weight, key_bias, value_weight, value_bias)


class _ProjectPoints(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(points, source, pool, key_weight, key_bias, value_weight, value_bias):
        key = nn.functional.linear(points, key_weight, key_bias)
        return key, nn.functional.linear(points, value_weight, value_bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        points, source, ctx.pool, key_weight, _, value_weight, _ = inputs
        ctx.save_for_backward(source, key_weight, value_weight)
        ctx.dtype = points.dtype

    @staticmethod
    def backward(ctx, key_gradient, value_gradient):
        source, key_weight, value_weight = ctx.saved_tensors
        # Under autocast the projections are of a lower precision than what they are given.
        points = ctx.pool(source).to(key_gradient.dtype).flatten(0, 1)
        to_points = key_gradient @ key_weight.to(key_gradient.dtype)
        to_points = to_points + value_gradient @ value_weight.to(value_gradient.dtype)
        to_parameters = [
            *_of_linear(key_gradient, points, key_weight, ctx.needs_input_grad[4]),
            *_of_linear(value_gradient, points, value_weight, ctx.needs_input_grad[6]),
        ]
        return to_points.to(ctx.dtype), None, None, *to_parameters


def _of_linear(gradient, inputs, weight, has_bias) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The gradients of a projection's weight and bias, in their own precision."""
    rows = gradient.flatten(0, 1)
    return (rows.T @ inputs).to(weight.dtype), rows.sum(dim=0).to(weight.dtype) if has_bias else None


def project_joined(
    outputs: list[torch.Tensor], order: list[int] | None, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """
    The output projection of groups of heads. They are joined for it, and only their parts kept, which the back-end
    keeps anyway.

    Args:
        outputs (`list[torch.Tensor]` of shape `(batch, tokens, heads, head_dim)`).
        order (`list[int]`, *optional*): the place of each of the layer's heads among those of the groups.
        weight (`torch.Tensor` of shape `(width, width)`).
        bias (`torch.Tensor` of shape `(width,)`, *optional*).

    Returns:
        `torch.Tensor` of shape `(batch, tokens, width)`.
    """
    return _ProjectJoined.apply(order, weight, bias, *outputs)


def join_heads(outputs: list[torch.Tensor], order: list[int] | None) -> torch.Tensor:
    """Groups of heads, each `(batch, tokens, heads, head_dim)`, as `(batch, tokens, width)` in the layer's order."""
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return (joined if order is None else joined[:, :, order]).flatten(2)


class _ProjectJoined(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(order, weight, bias, *outputs):
        return nn.functional.linear(join_heads(outputs, order), weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.order, weight, _, *outputs = inputs
        ctx.save_for_backward(weight, *outputs)

    @staticmethod
    def backward(ctx, gradient):
        weight, *outputs = ctx.saved_tensors
        joined = join_heads(outputs, ctx.order).to(gradient.dtype).flatten(0, 1)
        to_weight, to_bias = _of_linear(gradient, joined, weight, ctx.needs_input_grad[2])
        del joined
        to_joined = (gradient @ weight.to(gradient.dtype)).unflatten(2, (-1, outputs[0].shape[3]))
        if ctx.order is not None:
            places = [0] * len(ctx.order)
            for head, place in enumerate(ctx.order):
                places[place] = head
            to_joined = to_joined[:, :, places]
        sizes = [output.shape[2] for output in outputs]
        to_outputs = (part.to(outputs[0].dtype) for part in to_joined.split(sizes, dim=2))
        return None, to_weight, to_bias, *to_outputs


__all__ = ["LONG", "join_heads", "keeps_less", "project_joined", "project_points"]
