"""The paper's figures 1 to 4: what its attentions cost compared with what they replace, over width and length."""

import time
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from torch._subclasses.fake_tensor import FakeTensorMode

from hf_primaldual.modeling.configuration_primal_dual_models import PrimalDualTextConfig
from hf_primaldual.modeling.modeling_primal_dual_text import PrimalDualTextForDocumentMatching

from ..pictures import in_style, new_figure, not_measured
from .costs import make_inputs
from .environment import environment
from .flops import count_flops
from .latency import interleaved, training_step
from .memory import count_peak_memory, if_it_fits, peak_memory

WIDTHS = (64, 128, 256, 512)
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
# Long Range Arena's, in the paper's set-up.
LAYERS, HEADS = 2, 2
# What is shown, each over the same of the baseline.
PANELS = {"flops": "FLOPs", "memory": "peak memory", "time": "training time"}
# Less is noise or rounding: a ratio must fall by so much at every doubling of the length.
_FALLS = 0.001
# So much of the narrowest model's saving must be left in the widest.
_STAYS = 0.75
# Operations a second that a training step is expected to reach, until one was measured.
_FIRST_SPEED = 1e10


class Figure(NamedTuple):
    """One of the paper's: costs of `attention` over those of `baseline`."""

    attention: str
    baseline: str


FIGURES = {
    1: Figure("bn+sh", "softmax"),
    2: Figure("sh", "softmax"),
    3: Figure("sparse-bn+sh", "sparse"),
    4: Figure("sparse-sh", "sparse"),
}


def count_size(
    attentions: Sequence[str], width: int, tokens: int, attn_implementation: str = "sdpa", heads: int = HEADS
) -> list[dict[str, Any]]:
    """
    What a training step costs by count, on tensors without data, of a model of Long Range Arena's retrieval: 2 layers,
    2 heads, a feed-forward block twice as wide; a batch of one pair of documents.

    Returns:
        A row for each attention with `flops`, `counted_memory`, the peak in bytes, and their `ratio` to those of the
        first attention.
    """
    about = {"attn_implementation": attn_implementation, "width": width, "tokens": tokens}
    rows = [{"attention": name, **about} for name in attentions]
    for row in rows:
        with FakeTensorMode():
            row |= _count(*_matching_model(row, heads))
    for row in rows:
        ratios = (row[key] / rows[0][key] for key in ("flops", "counted_memory"))
        row["ratio"] = dict(zip(("flops", "memory"), ratios, strict=True))
    return rows


def measure_sizes(
    rows: list[dict[str, Any]], budget: float, rounds: int = 5, report: Callable[[list], None] = lambda size: None
) -> None:
    """
    Runs the models of `rows`, those of one size in turn, from small sizes to large ones, until the next would take
    longer than what is left of `budget`, in seconds; sizes that have times are passed by.

    Rows get `measured_memory` and `ms` of a training step, and their `ratio` the memory measured and the `time`. Sizes
    whose count needs more than half of the machine's memory are not run. `report` is called with the rows of every
    size when they are there.
    """
    left, speed = budget, _FIRST_SPEED
    memory = environment()["hardware"]["memory_gib"]
    sizes = [list(size) for _, size in groupby(rows, key=lambda row: (row["width"], row["tokens"]))]
    for size in sorted(sizes, key=lambda size: sum(row["flops"] for row in size)):
        flops = sum(row["flops"] for row in size)
        too_large = memory is not None and max(row["counted_memory"] for row in size) > memory * 2**29
        # Profiled once, warmed up once and timed.
        if "ms" not in size[0] and not too_large and (rounds + 2) * flops / speed < left:
            begun = time.perf_counter()
            if_it_fits(lambda size=size: _measure(size, rounds))
            left -= time.perf_counter() - begun
            report(size)
        if "ms" in size[0]:
            speed = flops / sum(row["ms"]["median"] / 1e3 for row in size)


def _matching_model(row: dict[str, Any], heads: int = HEADS):
    """The model of a row, and its inputs."""
    size = row["width"], row["tokens"], row["attn_implementation"]
    config = text_config(row["attention"], *size, num_attention_heads=heads, num_hidden_layers=LAYERS)
    model = PrimalDualTextForDocumentMatching(config)
    return model, make_inputs(model, row["tokens"])


def _count(model, inputs) -> dict[str, int]:
    counted = {}

    def step():
        counted["flops"] = count_flops(model, **inputs, backward=True)

    counted["counted_memory"] = count_peak_memory(step, model, *inputs.values())
    return counted


def _measure(size: list[dict[str, Any]], rounds: int) -> None:
    """Puts peak memory and times of a training step into the rows of a size."""
    steps = [training_step(*_matching_model(row)) for row in size]
    memory = [peak_memory(step) for step in steps]
    times = interleaved(dict(enumerate(steps)), rounds=rounds, warmup=1)
    for index, row in enumerate(size):
        row |= {"measured_memory": memory[index], "ms": times[index].milliseconds(), "rounds": rounds}
        row["ratio"]["memory"] = memory[index] / memory[0]
        row["ratio"]["time"] = times[index].median / times[0].median


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


def claims(attention: str, rows: list[dict[str, Any]]) -> str:
    """
    Whether the claim under the paper's figures holds here, in FLOPs and in peak memory: that the savings grow with the
    length and stay as the model grows; and the times that were measured.

    They grow if at every width the ratio falls by 0.001 or more at every doubling of the length. They stay if at the
    longest length the widest model saves three quarters of what the narrowest saves, or more.
    """
    ratios = {(row["width"], row["tokens"]): row["ratio"] for row in rows if row["attention"] == attention}
    widths, lengths = (sorted(set(values)) for values in zip(*ratios, strict=True))
    sentences = []
    for metric in ("flops", "memory"):
        lines = [[ratios[width, tokens][metric] for tokens in lengths] for width in widths]
        grow = all(a - b >= _FALLS for line in lines for a, b in pairwise(line))
        narrowest, widest = lines[0], lines[-1]
        stay = 1 - widest[-1] >= _STAYS * (1 - narrowest[-1]) > 0
        faults = ["do not grow with the length"] * (not grow) + ["do not stay as the model grows"] * (not stay)
        verdict = f"does not hold, as the savings {' and '.join(faults)}" if faults else "holds"
        sentences.append(
            f"In {PANELS[metric]} the claim {verdict}: {narrowest[0]:.3f} at {lengths[0]} tokens and "
            f"{narrowest[-1]:.3f} at {lengths[-1]} at width {widths[0]}, {widest[0]:.3f} and {widest[-1]:.3f} "
            f"at width {widths[-1]}."
        )
    times = [ratio["time"] for ratio in ratios.values() if "time" in ratio]
    timed = f"{min(times):.2f} to {max(times):.2f} at {len(times)} of {len(ratios)} sizes" if times else "not measured"
    return " ".join([*sentences, f"Training time: {timed}."])


@in_style
def plot_figure(number: int, results: dict[str, Any]):
    """
    One of the paper's figures, of a results file with its `rows`, `hardware` and `versions`: FLOPs on the left, peak
    memory beside them, then time; a line for each width over the length. Returns the `matplotlib.figure.Figure`.
    """
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    attention, baseline = FIGURES[number]
    rows = sorted((row for row in results["rows"] if row["attention"] == attention), key=lambda row: row["tokens"])
    widths, lengths = (sorted({row[key] for row in rows}) for key in ("width", "tokens"))
    colors = colormaps["viridis"]([0.85 - 0.85 * index / len(widths) for index in range(len(widths))])
    looks = {
        width: {"color": color, "marker": "so^D"[index % 4]}
        for index, (width, color) in enumerate(zip(widths, colors, strict=True))
    }
    picture, panels = new_figure(13, 4.6, 1, len(PANELS), sharey=True)
    for panel, (metric, label) in zip(panels[0], PANELS.items(), strict=True):
        panel.set_title(f"{label} / {baseline}'s")
        panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
        panel.set_xlim(-0.4, len(lengths) - 0.6)
        panel.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        panel.set_xlabel("tokens")
        for width, look in looks.items():
            line = [row for row in rows if row["width"] == width and metric in row["ratio"]]
            for part, style in ((line, {"markerfacecolor": "white"}), (_run(line), {"linestyle": "none"})):
                places = [lengths.index(row["tokens"]) for row in part]
                panel.plot(places, [row["ratio"][metric] for row in part], **look, **style)
        for place, tokens in enumerate(lengths):
            missing = [str(row["width"]) for row in rows if row["tokens"] == tokens and metric not in row["ratio"]]
            if missing:
                not_measured(panel, place, "" if len(missing) == len(widths) else f":\nwidth {', '.join(missing)}")
    largest = max(ratio for row in rows for ratio in row["ratio"].values())
    panels[0][0].set_ylim(0, max(1.25, 1.05 * largest))
    handles = [Line2D([], [], **look, label=f"width {width}") for width, look in looks.items()]
    handles.append(Line2D([], [], color="grey", marker="o", markerfacecolor="white", label="counted, not run"))
    handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=":", label=f"{baseline}, below is less"))
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    hardware, torch = results["hardware"], f"torch {results['versions']['torch']}"
    machine = f"{hardware['processor']}, {hardware['threads']} thread{'s' * (hardware['threads'] > 1)}, {torch}"
    title = f"Figure {number}: {attention} to {baseline} on {rows[0]['attn_implementation']}"
    title += f", a training step on a pair of documents, {LAYERS} layers, {HEADS} heads\n"
    picture.suptitle(title + (f"run on {machine}" if _run(rows) else f"not run, counted by {torch}"))
    return picture


def _run(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if "ms" in row]
