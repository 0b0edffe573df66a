"""The paper's figures 1 to 4: what its attentions cost beside what they replace, over width and length."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hf_primaldual.modeling.configuration_primal_dual_models import PrimalDualTextConfig
from hf_primaldual.modeling.modeling_primal_dual_text import PrimalDualTextForSequenceClassification

from .fits import if_it_fits
from .flops import count_flops
from .formulas import text_model_flops
from .latency import interleaved, ratio_of_medians
from .memory import peak_memory
from .memory_formulas import text_model_peak_bytes
from .models import make_inputs
from .plots import new_figure

WIDTHS = (64, 128, 256, 512)
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
# Operations a second that a training step is expected to reach, until one was measured.
_FIRST_SPEED = 1e10


class Figure(NamedTuple):
    """One of the paper's: `metric` of `attentions` over that of `baseline`."""

    metric: str
    attentions: tuple[str, ...]
    baseline: str


FIGURES = {
    1: Figure("flops", ("bn+sh", "sh"), "softmax"),
    2: Figure("memory", ("bn+sh", "sh"), "softmax"),
    3: Figure("flops", ("sparse-bn+sh", "sparse-sh"), "sparse"),
    4: Figure("memory", ("sparse-bn+sh", "sparse-sh"), "sparse"),
}


def figure_rows(
    figure: Figure,
    widths: Sequence[int] = WIDTHS,
    lengths: Sequence[int] = LENGTHS,
    budget: float = 300,
    attn_implementation: str = "sdpa",
    rounds: int = 5,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """
    The ratios of a figure, of a training step of a text model of Long Range Arena's retrieval: 2 layers, 8 heads, a
    feed-forward block twice as wide, one text.

    Small sizes are measured first, until the next would take longer than what is left of `budget` seconds or does not
    fit into memory; FLOPs and memory then come from the closed formulas, and there is no time. Of sparse attention no
    formula knows the memory: half of the budget is kept to measure it in single steps, and where that does not reach
    it is `None`.

    Args:
        figure: of `FIGURES`.
        widths, lengths: sizes of the model and of its input.
        budget: seconds for all measurements; 0 takes everything from the formulas.
        attn_implementation: of all the models; the paper's comparison is `"eager"`.
        rounds: timed steps of each model.
        report: called with every row when it is there.

    Returns:
        A row for each attention, width and length with the ratios `flops`, `memory` and `time`, and `origin`, which
        says of `flops` and `memory` whether they were `"measured"` or come from a `"formula"`.
    """
    start, speed, rows = time.perf_counter(), _FIRST_SPEED, []
    for width, tokens in sorted(((w, n) for w in widths for n in lengths), key=lambda size: size[0] * size[1] ** 2):
        names = (figure.baseline, *figure.attentions)
        configs = {name: _config(name, width, tokens, attn_implementation) for name in names}
        flops = {name: text_model_flops(config, tokens, 1, attn_implementation) for name, config in configs.items()}
        found = {"flops": {name: each.training for name, each in flops.items()}, "time": None}
        found["memory"] = _memory_by_formula(configs, tokens, attn_implementation)
        origin = {"flops": "formula", "memory": "formula"}
        # Profiled once, counted once, warmed up once and timed.
        work = sum(found["flops"].values())
        begun = time.perf_counter()
        left = start + budget - begun
        if found["memory"] is None:
            left -= budget / 2
        if (rounds + 3) * work / speed < left:
            outcome = if_it_fits(lambda configs=configs, tokens=tokens: _measured(configs, tokens, rounds))
            if outcome.result is not None:
                found, origin = outcome.result, {"flops": "measured", "memory": "measured"}
                speed = (rounds + 3) * work / (time.perf_counter() - begun)
        left = start + budget - time.perf_counter()
        if found["memory"] is None and work / speed < left:
            found["memory"] = if_it_fits(lambda configs=configs, tokens=tokens: _peaks(configs, tokens)).result
            origin["memory"] = "measured"
        for name in figure.attentions:
            rows.append(
                {
                    "attention": name,
                    "baseline": figure.baseline,
                    "attn_implementation": attn_implementation,
                    "width": width,
                    "tokens": tokens,
                    **{key: _ratio(values, name, figure.baseline) for key, values in found.items()},
                    "origin": origin,
                }
            )
            if report is not None:
                report(rows[-1])
    return rows


def plot_figure(figure: Figure, rows: list[dict[str, Any]], title: str = ""):
    """
    Bars of a figure's ratios over the length, a panel for each width, and below them the measured ratios of time.
    Hatched bars come from the formulas.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    widths = sorted({row["width"] for row in rows})
    lengths = sorted({row["tokens"] for row in rows})
    picture, panels = new_figure(1 + 3 * len(widths), 5.5, 2, len(widths), sharey="row")
    measures = ((figure.metric, {"flops": "FLOPs", "memory": "peak memory"}[figure.metric]), ("time", "training time"))
    for line, (metric, label) in zip(panels, measures, strict=True):
        for panel, width in zip(line, widths, strict=True):
            for index, name in enumerate(figure.attentions):
                own = [row for row in rows if row["width"] == width and row["attention"] == name]
                for row in own:
                    if row[metric] is None:
                        continue
                    is_formula = row["origin"].get(metric) == "formula"
                    panel.bar(
                        lengths.index(row["tokens"]) + 0.38 * (index - 0.5),
                        row[metric],
                        width=0.36,
                        color=f"C{index}",
                        alpha=0.5 if is_formula else 1,
                        hatch="///" if is_formula else None,
                        edgecolor="black" if is_formula else None,
                    )
            panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
            panel.set_xticks(range(len(lengths)), [str(length) for length in lengths], fontsize=7, rotation=45)
            panel.set_xlim(-0.6, len(lengths) - 0.4)
            panel.set_title(f"width {width}", fontsize=9)
        line[0].set_ylabel(f"{label} / {figure.baseline}'s")
    for panel in panels[1]:
        panel.set_xlabel("tokens")
    _legend(picture, figure)
    picture.suptitle(title, fontsize=10)
    return picture


def _legend(picture, figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=f"C{index}", label=name) for index, name in enumerate(figure.attentions)]
    handles.append(Patch(facecolor="white", edgecolor="black", hatch="///", label="from the closed formula"))
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)


def plot_pareto(results: dict[str, Any], point: int = -1):
    """
    Accuracy of every attention against FLOPs, inference time and training time, from a training script's results
    (`hub.results`).

    Args:
        results: a validated results file.
        point: which entry of `efficiency` the costs are taken from.

    Returns:
        The `matplotlib.figure.Figure`. Bars are deviations over seeds, the line joins what nothing beats in both.
    """
    from matplotlib.ticker import LogLocator

    cost, names = results["efficiency"][point], (results["baseline"], *results["attentions"])
    axes = {
        "FLOPs of a forward": {name: cost[name]["forward_flops"] for name in names},
        "inference, ms": {name: cost[name]["inference_ms"]["median"] for name in names},
        "training step, ms": {name: cost[name]["train_step_ms"]["median"] for name in names},
    }
    summary = {name: results["summary"][name] for name in names}
    accuracy = {name: 100 * each["test_accuracy_mean"] for name, each in summary.items()}
    picture, panels = new_figure(11, 4, 1, 3, sharey=True)
    for panel, (label, values) in zip(panels[0], axes.items(), strict=True):
        for index, name in enumerate(names):
            deviation = 100 * (summary[name]["test_accuracy_std"] or 0)
            # Ten colours, and after them another marker; the baseline is black.
            style = {"color": f"C{(index - 1) % 10}", "marker": "o^D"[(index - 1) // 10 % 3]}
            style = {"color": "black", "marker": "s"} if name == results["baseline"] else style
            panel.errorbar(values[name], accuracy[name], deviation, label=name, capsize=3, linestyle="none", **style)
        front = pareto_front({name: (values[name], accuracy[name]) for name in names})
        panel.plot([values[n] for n in front], [accuracy[n] for n in front], color="grey", linewidth=0.8, zorder=0)
        panel.set_xlabel(label)
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    panels[0][0].set_ylabel("test accuracy, %")
    picture.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    seeds = summary[names[0]]["seeds"]
    picture.suptitle(
        f"{results['dataset']['name']}, {seeds} seeds; costs at {cost['batch']} x {cost['tokens']} tokens", fontsize=10
    )
    return picture


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """The names of `(cost, gain)` that no other has at most the cost and at least the gain of, by cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def _config(attention: str, width: int, tokens: int, attn_implementation: str) -> PrimalDualTextConfig:
    return PrimalDualTextConfig(
        attention=attention,
        hidden_size=width,
        num_attention_heads=8,
        num_hidden_layers=2,
        intermediate_size=2 * width,
        max_position_embeddings=tokens,
        hidden_dropout_prob=0.0,
        attn_implementation=attn_implementation,
    )


def _measured(configs: dict[str, PrimalDualTextConfig], tokens: int, rounds: int) -> dict[str, Any]:
    models, inputs, steps = _steps(configs, tokens)
    memory = {name: peak_memory(step) for name, step in steps.items()}
    flops = {name: count_flops(model, **inputs, backward=True) for name, model in models.items()}
    times = interleaved(steps, rounds=rounds, warmup=1)
    baseline = next(iter(models))
    return {
        "flops": flops,
        "memory": memory,
        "time": {name: ratio_of_medians(times, name, baseline) for name in times},
    }


def _peaks(configs: dict[str, PrimalDualTextConfig], tokens: int) -> dict[str, int]:
    return {name: peak_memory(step) for name, step in _steps(configs, tokens)[2].items()}


def _steps(configs: dict[str, PrimalDualTextConfig], tokens: int):
    """Models, what they are fed with, and a training step of each."""
    models = {name: PrimalDualTextForSequenceClassification(config) for name, config in configs.items()}
    inputs = make_inputs(next(iter(models.values())), tokens)

    def step_of(model):
        def step():
            model.zero_grad(set_to_none=True)
            model(**inputs).loss.backward()

        return step

    return models, inputs, {name: step_of(model) for name, model in models.items()}


def _memory_by_formula(configs, tokens: int, attn_implementation: str) -> dict[str, int] | None:
    try:
        return {
            name: text_model_peak_bytes(config, tokens, 1, attn_implementation) for name, config in configs.items()
        }
    except NotImplementedError:
        return None


def _ratio(values: dict[str, float] | None, name: str, baseline: str) -> float | None:
    return None if values is None else values[name] / values[baseline]


__all__ = ["FIGURES", "LENGTHS", "WIDTHS", "Figure", "figure_rows", "pareto_front", "plot_figure", "plot_pareto"]
