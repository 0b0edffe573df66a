"""
Which heads of a checkpoint can be fitted on fewer points, measured on inputs without labels.

Pooling the keys of a head by a factor changes the head's output by delta, and to first order the model's embedding by
J delta, J being what all that follows makes of it. For a random direction v of the embedding one backward gives v.J
for all heads; the mean of (v.J delta)^2 over directions is |J delta|^2, and sums of v.J delta over heads are what
pooling them together does (our choice of a criterion). Products of two heads' effects are the noisier part of it, and
count half.
"""

import copy
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from ..pictures import in_style, new_figure
from .apply import apply
from .attention import attention_function
from .embeddings import EMBEDDINGS, as_batches
from .layouts import token_layout
from .settings import ATTENTIONS, SETTINGS

# On a sequence, and on a grid, where a factor pools both sides. Each factor is a group of heads with calls of its own;
# finer ones, up to 64, kept embeddings no nearer.
FACTORS = {1: (1, 2, 8), 2: (1, 2, 4)}
_BELIEF = 0.5


@dataclass
class Calibration:
    """
    What [`calibrate`] has found.

    Args:
        settings (`dict`): what `apply` and `convert` take: `head_scales`, the factor of each head of each layer, and
            `num_prefix_tokens`, where the model's first tokens are kept apart.
        cost (`float`): the share of the keys that heads see, of 1 / factor, or 1 / factor^2 on a grid: what is left of
            attention's products of queries, keys and values.
        change (`float`): the predicted change of the embedding, as a share of its length.
        changes (`list[list[float]]`): what each head alone adds to it.
    """

    settings: dict[str, Any]
    cost: float
    change: float
    changes: list[list[float]]

    @property
    def head_scales(self) -> list[list[int]]:
        return self.settings["head_scales"]

    def __str__(self) -> str:
        width = max(len(str(factor)) for layer in self.head_scales for factor in layer)
        lines = [
            " ".join(f"{factor:>{width}}" for factor in factors) + " | " + " ".join(f"{each:.3f}" for each in changes)
            for factors, changes in zip(self.head_scales, self.changes, strict=True)
        ]
        head = (
            f"factors of heads, and what each alone changes, a line a layer; {self.cost:.2f} of the cost, embeddings "
            f"change by {self.change:.3f}"
        )
        return "\n".join((head, *lines))

    @in_style
    def plot(self, path: str | PathLike) -> None:
        """Draws the factors, layer by head, and what each adds to the change."""
        figure, ((factors, changes),) = new_figure(9, 0.8 + 0.35 * len(self.head_scales), 1, 2)
        for panel, values, label in (
            (factors, torch.tensor(self.head_scales).log2(), "factor"),
            (changes, torch.tensor(self.changes), "change of the embedding by this head alone"),
        ):
            image = panel.imshow(values.numpy(), cmap="viridis", aspect="auto")
            panel.set(xlabel="head", ylabel="layer", title=label)
            bar = figure.colorbar(image, ax=panel)
            if label == "factor":
                chosen = sorted({factor for layer in self.head_scales for factor in layer})
                bar.set_ticks(torch.tensor(chosen).log2().tolist(), labels=[str(factor) for factor in chosen])
        figure.savefig(path, dpi=150)


def calibrate(
    model: PreTrainedModel,
    inputs: Iterable[Mapping[str, torch.Tensor]],
    budget: float = 0.7,
    *,
    factors: Sequence[int] | None = None,
    attention: str = "sh",
    embedding: str | Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor] = "mean",
    directions: int = 8,
    rounds: int = 4,
    seed: int = 0,
    **settings,
) -> Calibration:
    """
    Chooses the factors of Attention-SH for each head of each layer, so that attention costs `budget` of what it costs
    now and the model's embeddings change as little as can be. Nothing is trained, and the model stays as it is.

    In `rounds` the cost falls to the budget by equal steps, and a last one stays there. Each measures around what was
    chosen before, takes the heads that change the embeddings least for the cost that they save, and then exchanges
    factors of two keys' heads as long as that helps.

    Many heads of a text encoder look at its first token (CLS) where they have nothing to look for: it is kept apart,
    unless `num_prefix_tokens=0` is given.

    Args:
        model (`PreTrainedModel`): with softmax attention that dispatches.
        inputs (`Iterable` of `dict`): some dozens of examples in batches, as the model takes them.
        budget (`float`): the share of the keys that is left, over all heads but those of layers that slide, whose
            windows stay as they are.
        factors (`Sequence[int]`, *optional*): that a head may have; by default those of [`FACTORS`] that leave most
            batches two points, or two on each side, and shorter batches are left out.
        attention (`str`): `"sh"`, or `"bn+sh"`, of which Attention-BN changes embeddings as well.
        embedding (`str` or `Callable`): what must not change: the `"mean"` of the last states over real tokens, the
            `"first"` of them, or `"all"`; a classifier's logits if it has some. Or a function of the model's output
            and a batch, which returns a `torch.Tensor` of shape `(batch, ...)`.
        directions (`int`): random directions of each example's embedding, drawn by `seed`.
        rounds (`int`): of measuring and choosing.
        settings: others of [`apply`], such as `num_prefix_tokens` and `sampling`.

    Returns:
        [`Calibration`], whose settings hold those given.

    Raises:
        ValueError: without inputs, for inputs shorter than the largest factor, for a budget that no factors meet, for
            a model of several parts that attend, and as [`apply`] does.
    """
    if isinstance(inputs, str | Mapping):
        raise ValueError(
            "`inputs` must hold batches, dictionaries of tensors, got one text or batch: put it in a list."
        )
    batches = [_as_called(batch, model.device) for batch in inputs]
    if not batches:
        raise ValueError("`inputs` must hold some batches of examples to calibrate with, got none.")
    embed = EMBEDDINGS.get(embedding, embedding)
    if not callable(embed):
        raise ValueError(f"`embedding` must be one of {', '.join(EMBEDDINGS)}, or a function, got {embedding!r}.")
    for name, counts in (("factors", factors or (1,)), ("directions", [directions]), ("rounds", [rounds])):
        if not all(isinstance(count, int) and count >= 1 for count in counts):
            raise ValueError(f"`{name}` must be whole numbers of at least 1, got {factors if factors else counts[0]}.")
    # With the same weights: what is changed below is none of the user's model.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = apply(copy.deepcopy(model, shared).eval(), attention, **settings)
    name = {preset: name for name, preset in ATTENTIONS.items()}[attention]
    lengths = []
    for batch in batches:
        with recording(Recorder(name, None, (1,))) as recorder, torch.no_grad():
            model(**batch)
        lengths.append(recorder.shortest)
    if model.main_input_name == "input_ids" and recorder.sides == 1 and not recorder.is_causal:
        settings = {"num_prefix_tokens": 1, **settings}
    shortest = statistics.median_low(lengths) if factors is None else min(lengths)
    factors = sorted({1, *(factors or (each for each in FACTORS[recorder.sides] if 2 * each <= shortest))})
    if factors[-1] > shortest:
        raise ValueError(
            f"`inputs` must have as many tokens{' on a side' * (recorder.sides - 1)} as the largest of `factors`, "
            f"{factors[-1]}, got {shortest}; take longer examples, or smaller factors."
        )
    batches = [batch for batch, length in zip(batches, lengths, strict=True) if length >= factors[-1]]
    shares = 1 / torch.tensor(factors, dtype=torch.float64) ** recorder.sides
    if not shares[-1] - 1e-9 <= budget <= 1:
        raise ValueError(
            f"`budget` must be from {shares[-1]:.3g}, what the largest of `factors`, {factors[-1]}, costs on all "
            f"heads, to 1, got {budget}; the inputs have {shortest} tokens{' on a side' * (recorder.sides - 1)}."
        )
    apply(model, "softmax")
    with torch.no_grad():
        originals = [embed(model(**batch), batch) for batch in batches]
    apply(model, attention, **settings)
    layers, heads = sorted(recorder.layers), recorder.heads
    chosen, first = torch.zeros(len(layers), heads, dtype=torch.long), None
    for step in (*torch.linspace(1, budget, rounds + 1)[1:].tolist(), budget):
        scales = torch.ones(max(recorder.all_layers) + 1, heads, dtype=torch.long)
        scales[layers] = torch.tensor(factors)[chosen]
        effects, moved = measure(model, name, batches, originals, embed, scales, factors, directions, seed)
        effects = effects[layers]
        first = effects if first is None else first
        change = choose(effects, moved, chosen, shares, step, recorder.per_key)
    scales[layers] = torch.tensor(factors)[chosen]
    changes = torch.zeros(scales.shape)
    changes[layers] = first.square().mean(dim=-1).sqrt().gather(2, chosen.unsqueeze(2)).squeeze(2).float()
    found = {**settings, "head_scales": scales.tolist()}
    return Calibration(found, float(shares[chosen].mean()), change, changes.tolist())


def _as_called(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch on the model's device, without labels."""
    if not isinstance(batch, Mapping):
        raise ValueError(f"`inputs` must hold batches, dictionaries of tensors, got a {type(batch).__name__}.")
    moved = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    return {key: value for key, value in moved.items() if "label" not in key}


def within_budget(
    model: PreTrainedModel,
    attention: str,
    budget: float | None,
    calibration: Iterable | None,
    settings: Mapping,
    measured: str = "sh",
) -> dict[str, Any]:
    """
    The settings that [`calibrate`] finds with the attention `measured`, for one call that converts as well.

    Raises:
        ValueError: for a budget without calibration inputs or the reverse, an attention that has no factors, or ones
            that are given.
    """
    if budget is None or calibration is None:
        raise ValueError(
            "`budget` and `calibration` go together: what attention may cost, and examples to measure it by."
        )
    if "sh" not in attention or "head_scales" in settings or "head_points" in settings:
        raise ValueError(
            f"`budget` chooses `head_scales` of 'sh' and 'bn+sh', got `attention={attention!r}`"
            + (" and factors or points that are given." if "sh" in attention else ".")
        )
    given = {name: settings[name] for name in SETTINGS if name in settings and settings[name] != "conv"}
    return calibrate(model, as_batches(calibration, model), budget, attention=measured, **given).settings


class Recorder:
    """The attention function, which notes each layer's output, and how each factor on all heads would change it."""

    def __init__(self, name: str, scales: torch.Tensor | None, factors: Sequence[int]):
        self.name, self.function, self.scales, self.factors = name, attention_function(name), scales, factors
        # How many heads there are, and share a key; whether tokens lie on a line or a grid, and its shortest side.
        self.config, self.heads, self.per_key, self.sides, self.shortest = None, 0, 1, 1, math.inf
        self.is_causal, self.layers, self.all_layers = False, set(), set()
        # The layer's place, its output, and changes of shape (factors, batch, tokens, heads, head_dim).
        self.calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def __call__(self, module, query, key, value, attention_mask, **kwargs):
        config, layer, heads = module.config, module.primal_dual_layer, query.shape[1]
        if self.config not in (None, config):
            raise ValueError("`model` has several parts that attend; calibrate each part by itself.")
        self.config = config
        self.all_layers.add(layer)
        settings = config.primal_dual or {}

        def attend(scales):
            config.primal_dual = {**settings, "head_scales": scales}
            return self.function(module, query, key, value, attention_mask, **kwargs)

        try:
            output, maps = attend([1] * heads if self.scales is None else self.scales[layer].tolist())
            if kwargs.get("sliding_window") is not None:
                return output, maps
            with torch.no_grad():
                changes = torch.stack([attend([factor] * heads)[0] - output for factor in self.factors])
        finally:
            config.primal_dual = settings or None
        _, grid = token_layout(config, key.shape[2], kwargs.get("primal_dual_grid"))
        sides = [side for side in (grid or ())[-2:] if side > 1] or [key.shape[2]]
        self.layers.add(layer)
        self.heads, self.per_key, self.sides = heads, heads // key.shape[1], len(sides)
        self.shortest = min(self.shortest, *sides)
        asked = kwargs.get("is_causal")
        self.is_causal |= bool(getattr(module, "is_causal", False) if asked is None else asked)
        # In a model whose weights are frozen the first needs no gradient yet.
        self.calls.append((layer, output if output.requires_grad else output.requires_grad_(), changes))
        return output, maps


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    before = AttentionInterface()[recorder.name]
    AttentionInterface.register(recorder.name, recorder)
    try:
        yield recorder
    finally:
        AttentionInterface.register(recorder.name, before)


def measure(
    model: PreTrainedModel,
    name: str,
    batches: list[Mapping[str, torch.Tensor]],
    originals: list[torch.Tensor],
    embed: Callable,
    scales: torch.Tensor,
    factors: Sequence[int],
    directions: int,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Returns:
        In random directions of the embeddings, as shares of their lengths: what each factor on each head adds, of
        shape `(layers, heads, factors, examples * directions)`; and how far they have moved from the `originals`
        already, `(examples * directions,)`.
    """
    generator, found, moved = torch.Generator().manual_seed(seed), [], []
    for batch, original in zip(batches, originals, strict=True):
        # Whatever the caller has switched off.
        with recording(Recorder(name, scales, factors)) as recorder, torch.inference_mode(False), torch.enable_grad():
            embeddings = embed(model(**batch), batch)
            drawn = torch.randn(directions, *original.shape, generator=generator).to(original)
            drawn = drawn / original.norm(dim=-1, keepdim=True)
            moved.append((drawn * (embeddings.detach() - original)).sum(dim=-1).cpu())
            layers, outputs, changes = zip(*recorder.calls, strict=True)
            for direction in drawn:
                gradients = torch.autograd.grad((embeddings * direction).sum(), outputs, retain_graph=True)
                effects = [
                    torch.einsum("bnhd,fbnhd->hfb", *pair).cpu() for pair in zip(gradients, changes, strict=True)
                ]
                # A layer may be called more than once.
                of_layers = effects[0].new_zeros(len(scales), *effects[0].shape)
                found.append(of_layers.index_add(0, torch.tensor(layers), torch.stack(effects)))
    return torch.cat(found, dim=-1), torch.cat([each.flatten() for each in moved])


def choose(
    effects: torch.Tensor,
    moved: torch.Tensor,
    chosen: torch.Tensor,
    shares: torch.Tensor,
    budget: float,
    per_key: int,
) -> float:
    """
    Changes which factors are `chosen`, `(layers, heads)`, until their `shares` of the keys are the budget on average:
    each time for the heads of one key, those that change the embeddings least for what they save; then for two keys at
    once, as long as the embeddings change less for no more cost.

    Returns:
        The predicted change of the embeddings, a share of their lengths.
    """
    effects = effects.unflatten(1, (-1, per_key)).sum(dim=2)  # (layers, keys, factors, examples * directions)
    count = len(shares)
    # All that a key may be given, in one row; the products of two keys' effects are believed by half.
    rows = effects.double().flatten(0, -2)
    keys = torch.arange(len(rows) // count)
    of_key, costs = keys.repeat_interleave(count), shares.repeat(len(keys))
    products = rows @ rows.T / rows.shape[1]
    products = torch.where(of_key[:, None] == of_key, products, _BELIEF * products)
    before = _BELIEF * (rows @ moved.double()) / rows.shape[1]
    now = keys * count + chosen[:, ::per_key].flatten()
    while True:
        current = now[of_key]
        # What each row would change instead of the current one of its key, and any two of them.
        together = before + products[:, now].sum(dim=1)
        own = products.diagonal()
        shift = products[torch.arange(len(rows)), current]
        harm = 2 * (together - together[current]) - 2 * shift + own + own[current]
        cost = costs - costs[current]
        excess = float(costs[now].mean()) - budget
        if excess > 1e-9:
            price = torch.where(cost < 0, harm / -cost, torch.inf)
            if price.isinf().all():
                break
            best = [int(price.argmin())]
        else:
            both = products - products[:, current] - products[current] + products[current][:, current]
            pairs = harm + harm[:, None] + 2 * both
            allowed = (of_key != of_key[:, None]) & ((cost + cost[:, None]) / len(keys) + excess <= 1e-9)
            pairs = torch.where(allowed, pairs, torch.inf)
            if not pairs.min() < -1e-9:
                break
            best = [int(place) for place in torch.unravel_index(pairs.argmin(), pairs.shape)]
        for row in best:
            now[of_key[row]] = row
    chosen.copy_((now % count).view(len(chosen), -1).repeat_interleave(per_key, dim=1))
    return float((moved.double() + rows[now].sum(dim=0)).square().mean().sqrt())


__all__ = ["FACTORS", "Calibration", "calibrate", "within_budget"]
