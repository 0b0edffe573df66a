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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from transformers import AttentionInterface, AutoImageProcessor, AutoTokenizer, PreTrainedModel

from .apply import apply
from .attention import attention_function
from .layouts import token_layout

# On a sequence, and on a grid, where a factor pools both sides. Each factor is a group of heads with calls of its own;
# finer ones, up to 64, kept embeddings no nearer.
FACTORS = {1: (1, 2, 8), 2: (1, 2, 4)}
# Of texts in tokens, where nobody says otherwise: calibration is to take minutes on a CPU.
LONGEST = 256
_NAME = "primal_dual_sh"
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
                chosen = sorted({factor for layer in self.head_scales for factor in layer})
                bar.set_ticks(torch.tensor(chosen).log2().tolist(), labels=[str(factor) for factor in chosen])
        figure.savefig(path, dpi=150)


def calibrate(
    model: PreTrainedModel,
    inputs: Iterable[Mapping[str, torch.Tensor]],
    budget: float = 0.7,
    *,
    factors: Sequence[int] | None = None,
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
        budget (`float`): the share of the keys that is left, over all heads.
        factors (`Sequence[int]`, *optional*): that a head may have; by default those of [`FACTORS`] that leave each
            input two points, or two on each side.
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
    batches = list(inputs)
    if not batches:
        raise ValueError("`inputs` must hold some batches of examples to calibrate with, got none.")
    embed = EMBEDDINGS.get(embedding, embedding)
    if not callable(embed):
        raise ValueError(f"`embedding` must be one of {', '.join(EMBEDDINGS)}, or a function, got {embedding!r}.")
    if _has_first_token(model):
        settings = {"num_prefix_tokens": 1, **settings}
    # With the same weights: what is changed below is none of the user's model.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = apply(copy.deepcopy(model, shared).eval(), "sh", **settings)
    with recording(Recorder(None, (1,))) as recorder, torch.no_grad():
        originals = [embed(model(**batch), batch) for batch in batches]
    factors = sorted({1, *(factors or (each for each in FACTORS[recorder.sides] if 2 * each <= recorder.shortest))})
    shares = 1 / torch.tensor(factors) ** recorder.sides
    if factors[-1] > recorder.shortest:
        raise ValueError(
            f"`inputs` must have as many tokens{' on a side' * (recorder.sides - 1)} as the largest of `factors`, "
            f"{factors[-1]}, got {recorder.shortest}; take longer examples, or smaller factors."
        )
    if not shares[-1] <= budget <= 1:
        raise ValueError(
            f"`budget` must be from {shares[-1]:.3g}, what the largest of `factors`, {factors[-1]}, costs on all "
            f"heads, to 1, got {budget}."
        )
    chosen = first = None
    for step in (*torch.linspace(1, budget, rounds + 1)[1:].tolist(), budget):
        scales = None if chosen is None else torch.tensor(factors)[chosen]
        effects, moved = measure(model, batches, originals, embed, scales, factors, directions, seed)
        if chosen is None:
            chosen, first = torch.zeros(effects.shape[:2], dtype=torch.long), effects
        change = choose(effects, moved, chosen, shares, step, recorder.per_key)
    alone = first.square().mean(dim=-1).sqrt().gather(2, chosen.unsqueeze(2)).squeeze(2)
    found = {"head_scales": torch.tensor(factors)[chosen].tolist()}
    if "num_prefix_tokens" in settings:
        found["num_prefix_tokens"] = settings["num_prefix_tokens"]
    return Calibration(found, float(shares[chosen].mean()), change, alone.tolist())


def _has_first_token(model: PreTrainedModel) -> bool:
    """Whether a model is an encoder of texts, each of whose tokens sees the first."""
    is_causal = any(getattr(module, "is_causal", False) for module in model.modules())
    return model.main_input_name == "input_ids" and not is_causal


def within_budget(
    model: PreTrainedModel, attention: str, budget: float | None, calibration: Iterable | None, settings: Mapping
) -> dict[str, Any]:
    """
    The settings that [`calibrate`] finds, for one call that converts as well.

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
    places = {name: settings[name] for name in ("num_prefix_tokens", "grid_size") if name in settings}
    return calibrate(model, as_batches(calibration, model.name_or_path), budget, **places).settings


def as_batches(examples: Iterable, name_or_path: str, size: int = 8) -> list[Mapping[str, torch.Tensor]]:
    """
    Examples as a model takes them: batches are left as they are; texts go through the tokenizer, cut to 256 tokens,
    and images through the image processor, that lie with the checkpoint.

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
    how = {"padding": True, "truncation": True, "max_length": LONGEST} if is_text else {}
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    return [dict(processor(part, return_tensors="pt", **how)) for part in parts]


def _mean(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    if states.dim() < 3:
        return states
    mask = token_mask(batch, states)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


def _first(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    # Of a row that is padded in front it is the first real token.
    return (
        states
        if states.dim() < 3
        else states[torch.arange(len(states)), token_mask(batch, states)[..., 0].argmax(dim=1)]
    )


def _all(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    return states if states.dim() < 3 else (states * token_mask(batch, states)).flatten(1)


def _states(output: Any) -> torch.Tensor:
    """`(batch, tokens, width)`, or logits of shape `(batch, classes)`."""
    return next(output[name] for name in ("logits", "last_hidden_state") if name in output)


def token_mask(batch: Mapping[str, torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """Which tokens are real, in the dtype of the states and of shape `(batch, tokens, 1)`."""
    mask = batch.get("attention_mask")
    is_of_tokens = mask is not None and mask.shape == states.shape[:2]
    return (mask if is_of_tokens else states.new_ones(states.shape[:2])).unsqueeze(-1).to(states.dtype)


EMBEDDINGS = {"mean": _mean, "first": _first, "all": _all}


class Recorder:
    """The attention function, which notes each layer's output, and how each factor on all heads would change it."""

    def __init__(self, scales: torch.Tensor | None, factors: Sequence[int]):
        self.function, self.scales, self.factors = attention_function(_NAME), scales, factors
        # How many heads share a key; whether tokens lie on a line or a grid, and its shortest side.
        self.config, self.per_key, self.sides, self.shortest = None, 1, 1, math.inf
        # The layer's place, its output, and changes of shape (factors, batch, tokens, heads, head_dim).
        self.calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def __call__(self, module, query, key, value, attention_mask, **kwargs):
        config, layer, heads = module.config, module.primal_dual_layer, query.shape[1]
        if self.config not in (None, config):
            raise ValueError("`model` has several parts that attend; calibrate each part by itself.")
        _, grid = token_layout(config, key.shape[2], kwargs.get("primal_dual_grid"))
        self.config, self.per_key, self.sides = config, heads // key.shape[1], 1 if grid is None else 2
        self.shortest = min(self.shortest, key.shape[2] if grid is None else min(grid[-2:]))
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
) -> tuple[torch.Tensor, torch.Tensor]:
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
    of_key, costs = keys.repeat_interleave(count), shares.double().repeat(len(keys))
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
            best = [int(torch.where(cost < 0, harm / -cost, torch.inf).argmin())]
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


__all__ = ["EMBEDDINGS", "FACTORS", "Calibration", "as_batches", "calibrate", "token_mask", "within_budget"]
