"""Sparse training sets: each query is fitted on its own subset of the keys, at the cost of that subset."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from .downsampling_primal_dual import is_dynamic, is_exporting

# Narrower blocks than this spend more time on themselves than on what they hold.
SMALLEST_BLOCK = 32


class SparsePattern(NamedTuple):
    """
    Which keys a query sees, after Child et al. (2019) and without their causality.

    With `p` the place of a query among the keys (its own, or that of the window that it was pooled into):

    - `"local"`: keys at most `half` away from `p`;
    - `"strided"`: keys a multiple of `stride` away from `p`;
    - `"fixed"`: keys of the same block of `stride` keys as `p`, and the last key of every block.

    `parts` holds one or more of them, of which the query sees the union. `scale` is the number of tokens per key; half
    and stride are in keys.
    """

    parts: tuple[str, ...]
    half: int
    stride: int
    scale: int = 1

    def for_scale(self, scale: int) -> "SparsePattern":
        """The same reach in tokens over keys that stand for `scale` tokens each."""
        return self._replace(half=self.half // scale, stride=max(self.stride // scale, 1), scale=scale)

    def rules(self) -> dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
        """For each component, whether the query at place `p` sees key `j` through it."""
        return {name: partial(rule, self) for part in self.parts for name, rule in SPARSE_PARTS[part].items()}


# The components of each part, whose rules may overlap.
SPARSE_PARTS = {
    "local": {"local": lambda pattern, p, j: (p - j).abs() <= pattern.half},
    "strided": {"strided": lambda pattern, p, j: (p - j) % pattern.stride == 0},
    "fixed": {
        "block": lambda pattern, p, j: p // pattern.stride == j // pattern.stride,
        "summary": lambda pattern, p, j: (j % pattern.stride == pattern.stride - 1) & (p >= 0),
    },
}


class Arrangement(NamedTuple):
    """
    Queries and keys side by side in blocks that hold all that a component keeps.

    `queries` takes `(batch, tokens, ...)` to `(batch, blocks, queries per block, ...)` and `restore` takes that back;
    `keys` takes `(batch, keys, ...)` to `(batch, blocks, keys per block, ...)` and `collect`, its adjoint, takes that
    back by adding up what a key has in the blocks that hold it. `query_places` and `key_places` hold the indices of
    what lies there, `(blocks, queries per block)` and `(blocks, keys per block)`, outside of 0 to keys - 1 for what is
    only filled in.
    """

    queries: Callable[[torch.Tensor], torch.Tensor]
    restore: Callable[[torch.Tensor], torch.Tensor]
    keys: Callable[[torch.Tensor], torch.Tensor]
    collect: Callable[[torch.Tensor], torch.Tensor]
    query_places: torch.Tensor
    key_places: torch.Tensor


def _fill(states: torch.Tensor, before: int, length: int) -> torch.Tensor:
    """Zeros before and after, up to `length` in all."""
    after = length - before - states.shape[1]
    return nn.functional.pad(states, (0, 0) * (states.ndim - 2) + (before, after))


def _neighbouring_blocks(tokens: int, keys: int, scale: int, size: int, halo: int, device) -> Arrangement:
    """Blocks of `size` keys, the queries that lie there, and `halo` blocks of keys on either side."""
    size, blocks, halo = (size, -(-keys // size), halo) if size < keys else (keys, 1, 0)

    def arrange_keys(states):
        filled = _fill(states, halo * size, (blocks + 2 * halo) * size).unflatten(1, (-1, size))
        return torch.cat([filled[:, shift : shift + blocks] for shift in range(2 * halo + 1)], dim=2)

    def collect(arranged):
        shifted = arranged.unflatten(2, (2 * halo + 1, size)).unbind(2)
        filled = sum(_fill(states, shift, blocks + 2 * halo) for shift, states in enumerate(shifted))
        return filled[:, halo : halo + blocks].flatten(1, 2)[:, :keys]

    places = torch.arange(blocks * size, device=device)
    within = torch.arange(-halo * size, (halo + 1) * size, device=device)
    return Arrangement(
        queries=lambda states: _fill(states, 0, blocks * size * scale).unflatten(1, (blocks, -1)),
        restore=lambda states: states.flatten(1, 2)[:, :tokens],
        keys=arrange_keys,
        collect=collect,
        query_places=places.repeat_interleave(scale).view(blocks, -1),
        key_places=places[::size].unsqueeze(1) + within,
    )


def _residue_classes(tokens: int, keys: int, scale: int, stride: int, device) -> Arrangement:
    """One block for each remainder by `stride`."""
    stride, groups = (stride, -(-keys // stride)) if stride < keys else (keys, 1)
    places = torch.arange(groups * stride, device=device).view(groups, stride).T

    def arrange_queries(states):
        filled = _fill(states, 0, groups * stride * scale).unflatten(1, (groups, stride, scale))
        return filled.transpose(1, 2).flatten(2, 3)

    return Arrangement(
        queries=arrange_queries,
        restore=lambda states: states.unflatten(2, (groups, scale)).transpose(1, 2).flatten(1, 3)[:, :tokens],
        keys=lambda states: _fill(states, 0, groups * stride).unflatten(1, (groups, stride)).transpose(1, 2),
        collect=lambda states: states.transpose(1, 2).flatten(1, 2)[:, :keys],
        query_places=places.repeat_interleave(scale, dim=1),
        key_places=places,
    )


def _every_last(tokens: int, keys: int, scale: int, stride: int, device) -> Arrangement:
    """All queries, with the last key of every block."""

    def collect(arranged):
        filled = nn.functional.pad(arranged.transpose(1, 2), (0, 0) * (arranged.ndim - 3) + (stride - 1, 0))
        return _fill(filled.flatten(1, 2), 0, keys)

    return Arrangement(
        queries=lambda states: states.unsqueeze(1),
        restore=lambda states: states.squeeze(1),
        keys=lambda states: states[:, stride - 1 :: stride].unsqueeze(1),
        collect=collect,
        query_places=torch.arange(tokens, device=device).div(scale, rounding_mode="floor").unsqueeze(0),
        key_places=torch.arange(stride - 1, keys, stride, device=device).unsqueeze(0),
    )


def _arrange(component: str, pattern: SparsePattern, tokens: int, keys: int, device) -> Arrangement:
    # What reaches past the sequence need not be filled up that far. Numbers of blocks are then written out, since the
    # compiler has no use for `keys // keys` where keys is a symbol.
    scale, stride = min(pattern.scale, tokens), pattern.stride
    if component == "local":
        # A block as wide as the reach needs one neighbour on either side.
        size = max(pattern.half, SMALLEST_BLOCK)
        return _neighbouring_blocks(tokens, keys, scale, size, -(-pattern.half // size), device)
    if component == "block":
        return _neighbouring_blocks(tokens, keys, scale, stride, 0, device)
    if component == "strided":
        return _residue_classes(tokens, keys, scale, stride, device)
    return _every_last(tokens, keys, scale, min(stride, keys), device)


def _arrangements(pattern: SparsePattern, query: torch.Tensor, key: torch.Tensor) -> list[Arrangement]:
    """One for each component, for queries `(batch, tokens, ...)` and keys `(batch, keys, ...)`."""
    tokens, keys = query.shape[1], key.shape[1]
    return [_arrange(name, pattern, tokens, keys, query.device) for name in pattern.rules()]


def _kept(name: str, pattern: SparsePattern, arrangement: Arrangement, keys: int, mask: torch.Tensor | None):
    """
    What a component keeps, `(batch or 1, blocks, queries per block, keys per block)`, without what an earlier one
    does.
    """
    p, j = arrangement.query_places.unsqueeze(-1), arrangement.key_places.unsqueeze(-2)
    rules = pattern.rules()
    kept = rules[name](p, j) & (j >= 0) & (j < keys)
    for earlier in list(rules)[: list(rules).index(name)]:
        kept = kept & ~rules[earlier](p, j)
    if mask is None:
        return kept.unsqueeze(0)
    return kept & arrangement.keys(mask.unsqueeze(-1)).squeeze(-1).unsqueeze(-2)


def sparse_softmax(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    pattern: SparsePattern,
    scaling: float,
    dropout: float,
    fused: bool,
) -> torch.Tensor:
    """
    Softmax attention over the keys that `pattern` keeps, renormalized over them, without a matrix of all pairs: but
    for a graph exported for any length, of which no blocks can be cut, and for plain operations compiled for a CPU.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, tokens, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, heads, keys, head_dim)`).
        mask (`torch.BoolTensor` of shape `(batch, keys)`, *optional*): true for the keys that count.
        fused (`bool`): sdpa in each block, or for a union, on a CPU and without dropout, torch's flash kernel.

    Returns:
        The output of shape `(batch, tokens, heads, head_dim)`.
    """
    is_fused = fused and (len(pattern.rules()) == 1 or (dropout == 0 and _flash_returns_logsumexp(query)))
    # On a CPU inductor (torch 2.13) gives the plain operations wrong gradients on short sequences of many lengths.
    is_wrong = not is_fused and query.device.type == "cpu" and torch.compiler.is_compiling()
    if is_wrong or is_dynamic(query.shape[2]):
        keep = dense_mask(pattern, query.shape[2], key.shape[2], query.device).expand(1, 1, -1, -1)
        keep = keep if mask is None else keep & mask[:, None, None, :]
        # For a query in the padding that keeps no key at all a fused softmax has no value.
        keep = keep | ~keep.any(dim=-1, keepdim=True)
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=keep, dropout_p=dropout, scale=scaling
        ).transpose(1, 2)
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    arrangements = _arrangements(pattern, query, key)
    kept = [
        _kept(name, pattern, arranged, key.shape[1], mask)
        for name, arranged in zip(pattern.rules(), arrangements, strict=True)
    ]
    if fused and len(arrangements) == 1:
        return _in_blocks(query, key, value, kept[0], arrangements[0], scaling, dropout)
    if is_fused:
        if torch.is_autocast_enabled(query.device.type):
            # As for sdpa, which the flash kernel below is a part of.
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = (states.to(dtype) for states in (query, key, value))
        # The kernel takes any layout whose channels lie side by side.
        query, key, value = (states.contiguous() for states in (query, key, value))
        biases = [_bias(keep, query) for keep in kept]
        if not (torch.is_grad_enabled() and any(states.requires_grad for states in (query, key, value))):
            # The compiler, which reads a Function another way where there is no gradient, loses the pattern's methods.
            return _flash_union(query, key, value, pattern, scaling, biases)[0]
        return FlashUnion.apply(query, key, value, pattern, scaling, *biases)[0]

    # A union has one softmax: logits of all components side by side, weights back to where each one's values lie.
    logits = [
        arranged.restore(_pairs(arranged.queries(query) * scaling, arranged.keys(key), keep))
        for arranged, keep in zip(arrangements, kept, strict=True)
    ]
    logits, widths = torch.cat(logits, dim=-1), [each.shape[-1] for each in logits]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weights = torch.softmax(logits, dim=-1, dtype=dtype).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout)
    output = 0
    for arranged, part in zip(arrangements, weights.split(widths, dim=-1), strict=True):
        blocks = arranged.queries(part).transpose(2, 3)
        output = output + arranged.restore((blocks @ arranged.keys(value).transpose(2, 3)).transpose(2, 3))
    return output


def _pairs(query: torch.Tensor, key: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Logits of shape `(batch, blocks, queries, heads, keys)`, the lowest number where nothing is kept."""
    logits = query.transpose(2, 3) @ key.transpose(2, 3).transpose(3, 4)
    return logits.masked_fill(~keep.unsqueeze(2), torch.finfo(logits.dtype).min).transpose(2, 3)


def _as_rows(states: torch.Tensor) -> torch.Tensor:
    """Blocks as rows of a batch: `(batch, blocks, tokens, heads, ...)` to `(batch * blocks, heads, tokens, ...)`."""
    return states.flatten(0, 1).transpose(1, 2)


def _as_blocks(states: torch.Tensor, batch: int) -> torch.Tensor:
    return states.transpose(1, 2).unflatten(0, (batch, -1))


def _in_blocks(query, key, value, keep, arrangement: Arrangement, scaling: float, dropout: float) -> torch.Tensor:
    """Fused attention with the blocks as rows of a batch."""
    batch = query.shape[0]
    blocks = [
        _as_rows(states) for states in (arrangement.queries(query), arrangement.keys(key), arrangement.keys(value))
    ]
    # What is only filled in at the end keeps no key at all, for which a fused softmax has no value.
    keep = keep | ~keep.any(dim=-1, keepdim=True)
    keep = keep.expand(batch, -1, -1, -1).flatten(0, 1).unsqueeze(1)
    output = nn.functional.scaled_dot_product_attention(*blocks, attn_mask=keep, dropout_p=dropout, scale=scaling)
    return arrangement.restore(_as_blocks(output, batch))


def _flash_returns_logsumexp(query: torch.Tensor) -> bool:
    """Whether torch's flash kernel of a CPU, which returns it and takes it back in its backward, can be called."""
    # An exported graph would keep the kernel's name, or replace it by operations that return no log-sum-exp.
    return (
        query.device.type == "cpu"
        and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward")
        and not (is_exporting() or torch.jit.is_tracing())
    )


def _bias(keep: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """
    What a component keeps as a bias of its logits, `(batch * blocks, 1, queries per block, keys per block)`.

    The lowest number and not -inf, for which the kernel has no log-sum-exp: that of a query that keeps nothing is now
    so low that the component has no weight in the union.
    """
    # The lowest number of float16 is none that logits could not reach.
    dtype = torch.promote_types(query.dtype, torch.float32)
    bias = torch.zeros(keep.shape, dtype=dtype, device=query.device).masked_fill(~keep, torch.finfo(dtype).min)
    return bias.expand(query.shape[0], -1, -1, -1).flatten(0, 1).unsqueeze(1)


def _flash_union(query, key, value, pattern, scaling, biases) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of shape `(batch, tokens, heads, head_dim)` and its log-sum-exps, `(batch, tokens, heads)`."""
    outputs, sums = [], []
    for arranged, bias in zip(_arrangements(pattern, query, key), biases, strict=True):
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            _as_rows(arranged.queries(query)),
            _as_rows(arranged.keys(key)),
            _as_rows(arranged.keys(value)),
            attn_mask=bias,
            scale=scaling,
        )
        outputs.append(arranged.restore(_as_blocks(output, len(query))))
        sums.append(arranged.restore(_as_blocks(lse, len(query))))
    lse = torch.stack(sums).logsumexp(dim=0)
    # A query in the padding may keep no key at all: from here on, and in the backward, its weights are 0.
    lse = lse.masked_fill(lse < torch.finfo(lse.dtype).min / 2, 0)
    output = sum((part - lse).exp().unsqueeze(-1) * output for part, output in zip(sums, outputs, strict=True))
    return output.to(query.dtype), lse


class FlashUnion(torch.autograd.Function):
    """
    The one softmax of a union from a flash kernel for each component, whose pairs are disjoint.

    With `lse_c` and `out_c` of component `c`, `lse = logsumexp_c lse_c` and `out = sum_c exp(lse_c - lse) out_c`. The
    kernel's backward takes weights from `exp(logits - lse)` and the sums over all keys from `out`, so with those of
    the union it returns a component's share of the union's gradients.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(query, key, value, pattern, scaling, *biases):
        """
        Args:
            query (`torch.Tensor` of shape `(batch, tokens, heads, head_dim)`).
            key, value (`torch.Tensor` of shape `(batch, keys, heads, head_dim)`).
            biases (`torch.Tensor` of shape `(batch * blocks, 1, queries per block, keys per block)`): one for each
                component.

        Returns:
            The output of shape `(batch, tokens, heads, head_dim)`, and its log-sum-exps, of which there is no
            gradient.
        """
        return _flash_union(query, key, value, pattern, scaling, biases)

    @staticmethod
    def setup_context(ctx, inputs, output):
        query, key, value, ctx.pattern, ctx.scaling, *biases = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(query, key, value, *output, *biases)

    @staticmethod
    def backward(ctx, grad_output, _):
        query, key, value, output, lse, *biases = ctx.saved_tensors
        grad_output, gradients = grad_output.contiguous(), []
        for arranged, bias in zip(_arrangements(ctx.pattern, query, key), biases, strict=True):
            shares = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                _as_rows(arranged.queries(grad_output)),
                _as_rows(arranged.queries(query)),
                _as_rows(arranged.keys(key)),
                _as_rows(arranged.keys(value)),
                _as_rows(arranged.queries(output)),
                _as_rows(arranged.queries(lse)),
                0.0,
                False,
                attn_mask=bias,
                scale=ctx.scaling,
            )
            adjoints = (arranged.restore, arranged.collect, arranged.collect)
            gradients.append([of(_as_blocks(share, len(query))) for of, share in zip(adjoints, shares, strict=True)])
        return *(sum(shares) for shares in zip(*gradients, strict=True)), None, None, *(None for _ in biases)


def dense_mask(pattern: SparsePattern, tokens: int, keys: int, device) -> torch.Tensor:
    """All pairs that the pattern keeps, `(tokens, keys)`: for the maps, which are asked for as a whole."""
    p = torch.arange(tokens, device=device).div(pattern.scale, rounding_mode="floor").unsqueeze(-1)
    j = torch.arange(keys, device=device)
    return torch.stack([rule(p, j) for rule in pattern.rules().values()]).any(dim=0)


__all__ = ["SPARSE_PARTS", "SparsePattern", "dense_mask", "sparse_softmax"]
