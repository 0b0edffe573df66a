"""
Which heads of a checkpoint can be fitted on fewer points, measured on inputs without labels.

Pooling the keys of a head by a factor changes the head's output by delta, and to first order the model's embedding by
J delta, J being what all that follows makes of it. For a random direction v of the embedding one backward gives v.J
for all heads; the mean of (v.J delta)^2 over directions is |J delta|^2, and sums of v.J delta over heads are what
pooling them together does (our choice of a criterion).
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from transformers import AttentionInterface, AutoImageProcessor, AutoTokenizer, PreTrainedModel

from .apply import apply
from .attention import attention_function

FACTORS = (1, 2, 4, 8, 16)
_NAME = "primal_dual_sh"


@dataclass
class Calibration:
    """
    What [`calibrate`] has found.

    Args:
        head_scales (`list[list[int]]`): the factor of each head of each layer, for `apply` and `convert`.
        cost (`float`): the mean of 1 / factor: what is left of attention's products of queries, keys and values.
        change (`float`): the predicted change of the embedding, as a share of its length.
        changes (`list[list[float]]`): what each head alone adds to it.
    """

    head_scales: list[list[int]]
    cost: float
    change: float
    changes: list[list[float]]

    def __str__(self) -> str:
        width = max(len(str(factor)) for layer in self.head_scales for factor in layer)
        lines = [" ".join(f"{factor:>{width}}" for factor in layer) for layer in self.head_scales]
        head = f"factors of heads, a line a layer; {self.cost:.2f} of the cost, embeddings change by {self.change:.3f}"
        return "\n".join((head, *lines))

    def plot(self, path: str | PathLike) -> None:
        """Draws the factors, layer by head, and what each adds to the change."""
        from ..pictures import new_figure

        figure, ((factors, changes),) = new_figure(9, 0.8 + 0.35 * len(self.head_scales), 1, 2)
        for panel, values, label in (
            (factors, torch.tensor(self.head_scales).log2(), "factor"),
            (changes, torch.tensor(self.changes), "change of the embedding by this head alone"),
        ):
            image = panel.imshow(values.numpy(), cmap="viridis", aspect="auto")
            panel.set(xlabel="head", ylabel="layer", title=label)
            bar = figure.colorbar(image, ax=panel)
            if label == "factor":
                powers = range(int(values.max()) + 1)
                bar.set_ticks(list(powers), labels=[str(2**power) for power in powers])
        figure.savefig(path, dpi=150)


def calibrate(
    model: PreTrainedModel,
    inputs: Iterable[Mapping[str, torch.Tensor]],
    budget: float = 0.7,
    *,
    factors: Sequence[int] = FACTORS,
    embedding: str | Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor] = "mean",
    directions: int = 8,
    rounds: int = 4,
    seed: int = 0,
    **settings,
) -> Calibration:
    """
    Chooses the factors of Attention-SH for each head of each layer, so that attention costs `budget` of what it costs
    now and the model's embeddings change as little as can be. Nothing is trained, and the model stays as it is.

    In `rounds` the cost falls to the budget by equal steps. Each measures around what was chosen before, and takes the
    heads that change the embeddings least for the cost that they save, all heads together.

    Args:
        model (`PreTrainedModel`): with softmax attention that dispatches.
        inputs (`Iterable` of `dict`): some dozens of examples in batches, as the model takes them.
        budget (`float`): the mean of 1 / factor over all heads.
        factors (`Sequence[int]`): that a head may have.
        embedding (`str` or `Callable`): what must not change: the `"mean"` of the last states over real tokens, the
            `"first"` of them, or `"all"`; a classifier's logits if it has some. Or a function of the model's output
            and a batch, which returns a `torch.Tensor` of shape `(batch, ...)`.
        directions (`int`): random directions of each example's embedding, drawn by `seed`.
        rounds (`int`): of measuring and choosing.
        settings: others of [`apply`], such as `num_prefix_tokens` and `grid_size`.

    Returns:
        [`Calibration`]

    Raises:
        ValueError: without inputs, for inputs shorter than the largest factor, for a budget that no factors meet, for
            a model of several parts that attend, and as [`apply`] does.
    """
    batches, factors = list(inputs), sorted({1, *factors})
    if not batches:
        raise ValueError("`inputs` must hold some batches of examples to calibrate with, got none.")
    if not 1 / factors[-1] <= budget <= 1:
        raise ValueError(
            f"`budget` must be from {1 / factors[-1]:.3g}, what the largest of `factors`, {factors[-1]}, costs on all "
            f"heads, to 1, got {budget}."
        )
    embed = EMBEDDINGS.get(embedding, embedding)
    if not callable(embed):
        raise ValueError(f"`embedding` must be one of {', '.join(EMBEDDINGS)}, or a function, got {embedding!r}.")
    # With the same weights: what is changed below is none of the user's model.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = apply(copy.deepcopy(model, shared).eval(), "softmax")
    with torch.no_grad():
        originals = [embed(model(**batch), batch) for batch in batches]
    apply(model, "sh", **settings)
    scales = first = None
    for step in torch.linspace(1, budget, rounds + 1)[1:].tolist():
        effects, moved, per_key = measure(model, batches, originals, embed, scales, factors, directions, seed)
        if scales is None:
            scales, first = torch.ones(effects.shape[:2], dtype=torch.long), effects
        change = choose(effects, moved, scales, factors, step, per_key)
    chosen = torch.searchsorted(torch.tensor(factors), scales)[..., None, None].expand(-1, -1, 1, first.shape[-1])
    alone = first.gather(2, chosen).square().mean(dim=-1).sqrt().squeeze(-1)
    return Calibration(scales.tolist(), float((1 / scales).mean()), change, alone.tolist())


def as_batches(examples: Iterable, name_or_path: str, size: int = 8) -> list[Mapping[str, torch.Tensor]]:
    """
    Examples as a model takes them: batches are left as they are; texts go through the tokenizer, and images through
    the image processor, that lie with the checkpoint.

    Raises:
        ValueError: where a checkpoint has none.
    """
    examples = list(examples)
    if not examples or isinstance(examples[0], Mapping):
        return examples
    is_text = isinstance(examples[0], str)
    loader, kind = (AutoTokenizer, "tokenizer") if is_text else (AutoImageProcessor, "image processor")
    try:
        processor = loader.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`calibration` holds {'texts' if is_text else 'images'}, but no {kind} lies with {name_or_path!r}; give "
            "batches as the model takes them, dictionaries of tensors."
        ) from error
    how = {"padding": True, "truncation": True} if is_text else {}
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    return [dict(processor(part, return_tensors="pt", **how)) for part in parts]


def _mean(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    if states.dim() < 3:
        return states
    mask = _mask(batch, states)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


def _first(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    # Of a row that is padded in front it is the first real token.
    return (
        states if states.dim() < 3 else states[torch.arange(len(states)), _mask(batch, states)[..., 0].argmax(dim=1)]
    )


def _all(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    return states if states.dim() < 3 else (states * _mask(batch, states)).flatten(1)


def _states(output: Any) -> torch.Tensor:
    """`(batch, tokens, width)`, or logits of shape `(batch, classes)`."""
    return next(output[name] for name in ("logits", "last_hidden_state") if name in output)


def _mask(batch: Mapping[str, torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """`(batch, tokens, 1)`"""
    mask = batch.get("attention_mask")
    is_of_tokens = mask is not None and mask.shape == states.shape[:2]
    return (mask if is_of_tokens else states.new_ones(states.shape[:2])).unsqueeze(-1).to(states.dtype)


EMBEDDINGS = {"mean": _mean, "first": _first, "all": _all}


class Recorder:
    """The attention function, which notes each layer's output, and how each factor on all heads would change it."""

    def __init__(self, scales: torch.Tensor | None, factors: Sequence[int]):
        self.function, self.scales, self.factors = attention_function(_NAME), scales, factors
        self.config, self.per_key = None, 1
        # The layer's place, its output, and changes of shape (factors, batch, tokens, heads, head_dim).
        self.calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def __call__(self, module, query, key, value, attention_mask, **kwargs):
        config, layer, heads = module.config, module.primal_dual_layer, query.shape[1]
        if self.config not in (None, config):
            raise ValueError("`model` has several parts that attend; calibrate each part by itself.")
        if key.shape[2] < self.factors[-1]:
            raise ValueError(
                f"`inputs` must have as many tokens as the largest of `factors`, {self.factors[-1]}, got "
                f"{key.shape[2]}; take longer examples, or smaller factors."
            )
        self.config, self.per_key = config, heads // key.shape[1]
        settings = config.primal_dual or {}

        def attend(scales):
            config.primal_dual = {**settings, "head_scales": scales}
            return self.function(module, query, key, value, attention_mask, **kwargs)

        try:
            output, maps = attend([1] * heads if self.scales is None else self.scales[layer].tolist())
            with torch.no_grad():
                changes = torch.stack([attend([factor] * heads)[0] - output for factor in self.factors])
        finally:
            config.primal_dual = settings or None
        # In a model whose weights are frozen the first needs no gradient yet.
        self.calls.append((layer, output if output.requires_grad else output.requires_grad_(), changes))
        return output, maps


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    AttentionInterface.register(_NAME, recorder)
    try:
        yield recorder
    finally:
        AttentionInterface.register(_NAME, recorder.function)


def measure(
    model: PreTrainedModel,
    batches: list[Mapping[str, torch.Tensor]],
    originals: list[torch.Tensor],
    embed: Callable,
    scales: torch.Tensor | None,
    factors: Sequence[int],
    directions: int,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """
    Returns:
        In random directions of the embeddings, as shares of their lengths: what each factor on each head adds, of
        shape `(layers, heads, factors, examples * directions)`; how far they have moved from the `originals` already,
        `(examples * directions,)`; and how many heads share a key.
    """
    generator, found, moved = torch.Generator().manual_seed(seed), [], []
    for batch, original in zip(batches, originals, strict=True):
        with recording(Recorder(scales, factors)) as recorder, torch.enable_grad():
            embeddings = embed(model(**batch), batch)
        drawn = torch.randn(directions, *original.shape, generator=generator).to(original)
        drawn = drawn / original.norm(dim=-1, keepdim=True)
        moved.append((drawn * (embeddings.detach() - original)).sum(dim=-1))
        layers, outputs, changes = zip(*recorder.calls, strict=True)
        for direction in drawn:
            gradients = torch.autograd.grad((embeddings * direction).sum(), outputs, retain_graph=True)
            effects = [torch.einsum("bnhd,fbnhd->hfb", *pair) for pair in zip(gradients, changes, strict=True)]
            # A layer may be called more than once.
            of_layers = effects[0].new_zeros(max(layers) + 1, *effects[0].shape)
            found.append(of_layers.index_add(0, torch.tensor(layers), torch.stack(effects)))
    return torch.cat(found, dim=-1), torch.cat([each.flatten() for each in moved]), recorder.per_key


def choose(
    effects: torch.Tensor,
    moved: torch.Tensor,
    scales: torch.Tensor,
    factors: Sequence[int],
    budget: float,
    per_key: int,
) -> float:
    """
    Raises factors in `scales`, `(layers, heads)`, until the mean of 1 / factor is the budget: each time those of the
    heads of one key which change the embeddings least for the cost that they save.

    Returns:
        The predicted change of the embeddings, a share of their lengths.
    """
    effects = effects.unflatten(1, (-1, per_key)).sum(dim=2)  # (layers, keys, factors, examples * directions)
    shares, now = 1 / torch.tensor(factors), moved
    # What the choices of this round have added, by key.
    added = torch.zeros_like(effects[:, :, 0])
    while float((1 / scales).mean()) > budget + 1e-9:
        then = now + effects - added.unsqueeze(2)
        harm = then.square().mean(dim=-1) - now.square().mean()
        saved = (1 / scales[:, ::per_key]).unsqueeze(-1) - shares
        price = torch.where(saved > 0, harm / saved, torch.inf)
        layer, key, factor = (int(place) for place in torch.unravel_index(price.argmin(), price.shape))
        now, added[layer, key] = then[layer, key, factor], effects[layer, key, factor]
        scales[layer, key * per_key : (key + 1) * per_key] = factors[factor]
    return float(now.square().mean().sqrt())


__all__ = ["EMBEDDINGS", "FACTORS", "Calibration", "as_batches", "calibrate"]
