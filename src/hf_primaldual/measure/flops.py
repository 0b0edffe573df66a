"""Count the floating point operations of matrix products, convolutions and attentions."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from .latency import scalar_of

Shape = Sequence[int]

# Words in an operator's name that tell matrix work: aten.mv, aten._native_multi_head_attention, aten.lstm, ...
_MATRIX_WORK = re.compile(
    r"(^|_)(\w*mm|\w*mv|v?dot|\w*matmul|conv(?!ert)\w*|linear|bilinear|trilinear|cdist"
    r"|attention|attn|transformer|rnn|gru|lstm)(_|$)"
)


def count_flops(model_or_callable: Callable[..., Any], *args: Any, backward: bool = False, **kwargs: Any) -> int:
    """
    Floating point operations of one call by torch's `FlopCounterMode`, a multiplication and an addition counting as
    two.

    Matrix products, convolutions and attentions count; elementwise work, softmax and normalization do not. A fused
    attention counts the products of its formula: 2 Nq Nk (D + Dv) a head forward, and 2 Nq Nk (3 D + 2 Dv) backward,
    where the scores are computed again. Eager attention keeps them, hence 2 Nq Nk (2 D + 2 Dv) backward.

    The call is made once, in the mode that the model is in; `backward` starts from the output's `loss` if it has one,
    else from the sum of its tensors. Gradients of a module are put back as they were. Inside of torch's
    `FakeTensorMode` it counts sizes that no memory holds. torch's FlexAttention does not run under a counter: use the
    eager or sdpa back-end.

    Raises:
        NotImplementedError: An operator that looks like matrix work has no formula: it would count as zero.
        ValueError: `backward` is asked for and nothing in the output requires a gradient.
    """
    return int(_counted(model_or_callable, args, kwargs, backward).get_total_flops())


def attention_share(model: nn.Module, **inputs: Any) -> float:
    """
    The share of a forward's floating point operations that are attention's products of queries, keys and values: all
    that a cheaper attention can save, but for projections of fewer keys.

    Raises:
        ValueError: where the model calls no fused attention, whose products are told apart: load it with
            `attn_implementation="sdpa"`.
    """
    counter = _counted(model, (), inputs, backward=False)
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for operator, count in counts.items() if "attention" in str(operator))
    if not products:
        raise ValueError(
            f"`model`: {type(model).__name__} calls no fused attention, whose products could be told apart; load it "
            'with `attn_implementation="sdpa"`.'
        )
    return products / counter.get_total_flops()


def _counted(model_or_callable: Callable[..., Any], args: tuple, kwargs: dict, backward: bool) -> FlopCounterMode:
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    parameters = list(model_or_callable.parameters()) if isinstance(model_or_callable, nn.Module) else []
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        # The counter decomposes an operator before the mode around it sees it: the guard meets only what is executed.
        with torch.set_grad_enabled(backward), _Guard(counter), counter:
            output = model_or_callable(*args, **kwargs)
            if backward:
                scalar_of(output).backward()
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    return counter


class _Guard(TorchDispatchMode):
    """Refuses matrix work that the counter has no formula for."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        packet = getattr(func, "_overloadpacket", func)
        if packet not in self.counter.flop_registry and _MATRIX_WORK.search(packet.__name__):
            raise NotImplementedError(f"no FLOP formula for the operator {func}: its work would be counted as zero")
        return func(*args, **(kwargs or {}))


def _attention_forward(query_shape: Shape, key_shape: Shape, value_shape: Shape, *args: Any, **kwargs: Any) -> int:
    batch, heads, queries, dim = query_shape
    keys, value_dim = value_shape[-2:]
    return 2 * batch * heads * queries * keys * (dim + value_dim)


def _attention_backward(
    grad_shape: Shape, query_shape: Shape, key_shape: Shape, value_shape: Shape, *args: Any, **kwargs: Any
) -> int:
    batch, heads, queries, dim = query_shape
    keys, value_dim = value_shape[-2:]
    # The scores again, then the gradients of query and key (dim each), of the weights and of value (value_dim each).
    return 2 * batch * heads * queries * keys * (3 * dim + 2 * value_dim)


def _convolution_backward(
    grad_shape: Shape, input_shape: Shape, weight_shape: Shape, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, wanted: Sequence[bool], *args: Any, **kwargs: Any,
) -> int:  # fmt: skip
    batch, places = grad_shape[0], (input_shape if transposed else grad_shape)[2:]
    # As many as the forward, for the gradient of the input and for that of the filters.
    return 2 * batch * math.prod(places) * math.prod(weight_shape) * sum(wanted[:2])


# Up to 2.13 torch has no formula for what scaled_dot_product_attention becomes on a CPU, and counts it as zero. Its
# formula for the gradient of filters leaves the groups out: a depthwise convolution's would count as dense.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    torch.ops.aten.convolution_backward: _convolution_backward,
}
