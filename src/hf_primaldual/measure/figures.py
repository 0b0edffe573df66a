"""The paper's figures 1 to 4: what its attentions cost compared with what they replace, over width and length."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch._subclasses.fake_tensor import FakeTensorMode

from hf_primaldual.modeling.configuration_primal_dual_models import PrimalDualTextConfig
from hf_primaldual.modeling.modeling_primal_dual_text import PrimalDualTextForSequenceClassification

from ..pictures import new_figure, not_measured, styles_of
from .costs import make_inputs
from .flops import count_flops
from .latency import interleaved, training_step
from .memory import count_peak_memory, if_it_fits, peak_memory

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
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """
    The ratios of a figure, of a training step of a text model of Long Range Arena's retrieval: 2 layers, 8 heads, a
    feed-forward block twice as wide, one text.

    FLOPs are counted on tensors without data. Memory and time are measured from small sizes to large ones, until the
    next would take longer than what is left of `budget`, in seconds, or does not fit; beyond, memory is counted as the
    FLOPs are, and there is no time.

    Returns:
        A row for each attention, width and length with the ratios `flops`, `memory` and `time`, and `origin`, which
        says whether memory was `"measured"` or `"counted"`; `report` is called with every row when it is there.
    """
    left, speed, rows = budget, _FIRST_SPEED, []
    names = (figure.baseline, *figure.attentions)
    for width, tokens in sorted(((w, n) for w in widths for n in lengths), key=lambda size: size[0] * size[1] ** 2):
        configs = {name: text_config(name, width, tokens, attn_implementation) for name in names}
        flops, memory = _count(configs, tokens)
        times, origin = None, "counted"
        # Profiled once, warmed up once and timed.
        work = (rounds + 2) * sum(flops.values())
        if work / speed < left:
            begun = time.perf_counter()
            outcome = if_it_fits(lambda configs=configs, tokens=tokens: _measure(configs, tokens, rounds))
            taken = time.perf_counter() - begun
            left, speed = left - taken, work / taken
            if outcome.result is not None:
                (memory, times), origin = outcome.result, "measured"
        for name in figure.attentions:
            row = {"attention": name, "baseline": figure.baseline, "attn_implementation": attn_implementation}
            row |= {"width": width, "tokens": tokens}
            row |= {"flops": flops[name] / flops[figure.baseline], "memory": memory[name] / memory[figure.baseline]}
            row |= {"time": times and times[name].median / times[figure.baseline].median, "origin": origin}
            rows.append(row)
            report(row)
    return rows


def _count(configs: dict[str, PrimalDualTextConfig], tokens: int) -> tuple[dict[str, int], dict[str, int]]:
    """FLOPs and peak memory of a training step, on tensors without data."""
    flops: dict[str, int] = {}

    def step():
        flops[name] = count_flops(model, **inputs, backward=True)

    memory = {}
    for name, config in configs.items():
        with FakeTensorMode():
            model = PrimalDualTextForSequenceClassification(config)
            inputs = make_inputs(model, tokens)
            memory[name] = count_peak_memory(step)
    return flops, memory


def _measure(configs: dict[str, PrimalDualTextConfig], tokens: int, rounds: int):
    """Peak memory and times of a training step."""
    models = {name: PrimalDualTextForSequenceClassification(config) for name, config in configs.items()}
    inputs = make_inputs(next(iter(models.values())), tokens)
    steps = {name: training_step(model, inputs) for name, model in models.items()}
    memory = {name: peak_memory(step) for name, step in steps.items()}
    return memory, interleaved(steps, rounds=rounds, warmup=1)


def text_config(attention: str, width: int, tokens: int, attn_implementation: str, **fields) -> PrimalDualTextConfig:
    """A text model of Long Range Arena's shape without dropout; the feed-forward blocks are twice as wide."""
    shape = {"num_attention_heads": 8, "num_hidden_layers": 2, **fields}
    return PrimalDualTextConfig(
        attention=attention,
        hidden_size=width,
        intermediate_size=2 * width,
        max_position_embeddings=tokens,
        hidden_dropout_prob=0.0,
        attn_implementation=attn_implementation,
        **shape,
    )


def plot_figure(figure: Figure, rows: list[dict[str, Any]], title: str = ""):
    """
    Bars of a figure's ratios over the length, a panel for each width, and below them the measured ratios of time.
    Hatched bars are of sizes that were not run. Returns the `matplotlib.figure.Figure`.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    widths = sorted({row["width"] for row in rows})
    lengths = sorted({row["tokens"] for row in rows})
    styles = styles_of(figure.attentions)
    picture, panels = new_figure(1 + 3 * len(widths), 5.5, 2, len(widths), sharey="row")
    labels = {figure.metric: {"flops": "FLOPs", "memory": "peak memory"}[figure.metric], "time": "training time"}
    not_run = {"alpha": 0.5, "hatch": "///", "edgecolor": "black"}
    for line, (metric, label) in zip(panels, labels.items(), strict=True):
        for panel, width in zip(line, widths, strict=True):
            for row in rows:
                if row["width"] != width:
                    continue
                index = figure.attentions.index(row["attention"])
                place, style = lengths.index(row["tokens"]) + 0.38 * (index - 0.5), {} if row["time"] else not_run
                if row[metric] is None:
                    not_measured(panel, place)
                else:
                    color = styles[row["attention"]]["color"]
                    panel.bar(place, row[metric], width=0.36, color=color, **style)
            panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
            panel.set_xticks(range(len(lengths)), [str(length) for length in lengths], fontsize=7, rotation=45)
            panel.set_xlim(-0.6, len(lengths) - 0.4)
            panel.set_title(f"width {width}", fontsize=9)
        line[0].set_ylabel(f"{label} / {figure.baseline}'s")
    for panel in panels[1]:
        panel.set_xlabel("tokens")
    handles = [Patch(color=styles[name]["color"], label=name) for name in figure.attentions]
    handles.append(Patch(facecolor="white", edgecolor="black", hatch="///", label="not run: computed from shapes"))
    handles.append(
        Line2D([], [], color="black", linewidth=0.8, linestyle=":", label=f"{figure.baseline}, below is less")
    )
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    picture.suptitle(title, fontsize=10)
    return picture
