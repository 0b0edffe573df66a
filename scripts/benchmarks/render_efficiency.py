"""
Renders the committed results of the benchmarks into the tables of the README and of docs/: what stands between
`<!-- NAME -->` and `<!-- end of NAME -->` is replaced.

    python scripts/benchmarks/render_efficiency.py
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tables import percent, ratios

from hf_primaldual.hub.markdown import markdown_table, replace_between
from hf_primaldual.hub.results import write_atomically
from hf_primaldual.measure.figures import FIGURES, claims
from hf_primaldual.measure.plots import plot_times
from hf_primaldual.pictures import write_pictures

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
DOCUMENTS = ("README.md", "docs/decoders.md", "docs/efficiency.md", "docs/hub.md", "docs/your-own-series.md")
# What the tables call the names of the results.
LABELS = {
    "sh:256": "`sh`, 256 points",
    "bn+sh:256": "`bn+sh`, 256 points",
    "sparse:local": "`sparse`, window 256",
    "sparse": "`sparse`, window 256 and stride 128",
}
MODES = ("inference", "training")
# What the README's picture shows.
FRONT = {"softmax": "softmax", "bn+sh": "bn+sh", "bn+sh:256": "bn+sh, 256 points a head"}
RATIOS = ["training step", "inference", "FLOPs", "peak memory"]


def all_results_of(name: str, folder: Path = RESULTS, on_gpu: bool = False) -> list[dict[str, Any]]:
    """The committed files of a measurement, one for each machine."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{name}-*.json"))]
    return [results for results in found if (results["hardware"]["accelerator"] is not None) == on_gpu]


def results_of(name: str, folder: Path = RESULTS, on_gpu: bool = False) -> dict[str, Any]:
    """The committed file of a measurement that the tables show of one machine."""
    found = all_results_of(name, folder, on_gpu)
    if len(found) != 1:
        kind = "GPU" if on_gpu else "CPU"
        raise FileNotFoundError(f"{folder.name} must hold one file {name}-*.json of a {kind}, got {len(found)}.")
    return found[0]


def table(results: dict[str, Any], header: list[str], rows: list[list[str]], about: str = "") -> str:
    """A table below a line on what its figures were measured on and with."""
    hardware, versions = results["hardware"], results["versions"]
    threads = f"{hardware['threads']} thread{'' if hardware['threads'] == 1 else 's'}"
    machine = hardware["accelerator"] or f"{hardware['processor']}, {threads}"
    libraries = f"torch {versions['torch']}, transformers {versions['transformers']}"
    return f"({about}{machine}, {libraries}; ours)\n\n{markdown_table(header, rows)}"


def layers(name: str = "attention-training-128x8", on_gpu: bool = False, only: tuple[str | int, ...] = ()) -> str:
    """Layers in units of softmax; `only` some attentions and lengths."""
    results = results_of(name, on_gpu=on_gpu)
    rows = [row for row in results["rows"] if not only or {row["attention"], row["tokens"]} <= {"softmax", *only}]
    found = {(row["attention"], row["tokens"]): row for row in rows}
    lengths = sorted({tokens for _, tokens in found})
    rows = [["`softmax` on sdpa, ms", *(f"{found['softmax', tokens]['ms']['median']:.1f}" for tokens in lengths)]]
    for name in dict.fromkeys(name for name, _ in found if name != "softmax"):
        rows.append([LABELS.get(name, f"`{name}`"), *(f"{found[name, tokens]['ratio']:.3f}" for tokens in lengths)])
    return table(results, ["attention", *(f"{tokens} tokens" for tokens in lengths)], rows)


def text_models() -> str:
    rows = []
    for back_end in ("sdpa", "eager"):
        results = results_of(f"text-model-128x8-{back_end}")
        found = {(row["tokens"], row["model"]): row for row in results["rows"]}
        for (tokens, name), row in found.items():
            if name != "softmax":
                rows.append([f"`{name}` on {back_end}", str(tokens), *ratios(row, found[tokens, "softmax"])])
    return table(results, ["in units of softmax on the same back-end", "tokens", *RATIOS], rows)


def vision_models() -> str:
    inference, training = results_of("vit-inference-batch8"), results_of("vit-training-batch8")
    found = [("inference", row) for row in inference["rows"]] + [("training step", row) for row in training["rows"]]
    labels = {"softmax": "`softmax`", "bn": "`bn`", "bn+sh": "`bn+sh`, scale 2 on all heads"}
    rows = [
        [label, *(f"{row['ratio']:.3f}" for _, row in found if row["model"] == name)] for name, label in labels.items()
    ]
    sizes = dict.fromkeys(f"{mode}, {row['image_size']}" for mode, row in found)
    return table(inference, ["vision model", *sizes], rows)


def short() -> str:
    """Whole models on short inputs, on each processor: three attentions in a cell for each mode and its threads."""
    names = {
        f"{mode}, {threads} thread{'s' * (threads > 1)}": f"short-{mode}-{threads}"
        for mode in MODES
        for threads in (1, 2)
    }
    machines = zip(*(all_results_of(name) for name in names.values()), strict=True)
    return "\n\n".join(short_of(dict(zip(names, machine, strict=True))) for machine in machines)


def short_of(modes: dict[str, dict[str, Any]]) -> str:
    cells = {}
    for mode, results in modes.items():
        for row in results["rows"]:
            of_case = cells.setdefault((row["model"], row["batch"], row["tokens"]), {})
            of_case.setdefault(mode, []).append(row)
    rows = []
    for (model, batch, tokens), found in cells.items():
        row = [f"{model}, {batch} x {tokens}", f"{next(iter(found.values()))[0]['ms']['median']:.1f}"]
        for mode in modes:
            ratios_of = {each["attention"]: f"{each['ratio']:.2f}" for each in found[mode]}
            row.append(" / ".join(ratios_of.get(name, "-") for name in ("bn", "sh", "bn+sh")))
        rows.append(row)
    return table(modes["inference, 2 threads"], ["`bn` / `sh` / `bn+sh`", "`softmax`, ms", *modes], rows)


def integration() -> str:
    results = results_of("integration-bert-384x12")
    rows = [[f"`{row['attention']}`", f"{row['ratio']:.3f}"] for row in results["rows"] if row["attention"] != "sdpa"]
    return table(results, ["`attn_implementation`", "in units of sdpa's time"], rows)


def redundancy() -> str:
    results = results_of("redundancy-japanesevowels")
    measures = ("output_distance", "map_distance", "output_cosine", "output_cka")
    rows = []
    for name, figures in results["summary"].items():
        cells = [f"{figures[f'{key}_mean']:.3f} ± {figures[f'{key}_std']:.3f}" for key in measures]
        rows.append([f"`{name}`", *cells, percent(figures["test_accuracy_mean"], figures["test_accuracy_std"])])
    seeds, settings = next(iter(results["summary"].values()))["seeds"], results["settings"]
    about = f"{settings['dataset']}, {settings['num_train_epochs']:g} epochs, {seeds} seeds; "
    return table(results, ["attention", *(f"`{key}`" for key in measures), "test accuracy, %"], rows, about)


def estimator() -> str:
    """What it reaches by its defaults beside what the recipe of the same attention reached, on the same test sets."""
    results, rows = results_of("estimator"), []
    frame = pd.DataFrame(results["rows"])
    for name, found in frame.groupby("dataset", sort=False):
        recipe = json.loads((RESULTS / "training" / f"{name.lower()}.json").read_text(encoding="utf-8"))
        recipe = recipe["summary"]["bn+sh"]
        accuracy, seconds = found["test_accuracy"], found["fit_seconds"]
        cells = [
            percent(accuracy.mean(), accuracy.std()),
            percent(recipe["test_accuracy_mean"], recipe["test_accuracy_std"]),
        ]
        rows.append(
            [name, str(len(found)), *cells, f"{seconds.median():.0f} ({seconds.min():.0f} to {seconds.max():.0f})"]
        )
    return table(results, ["`bn+sh`", "seeds", "by defaults, %", "by its recipe, %", "seconds to fit"], rows)


def first_queries() -> str:
    """Means over the seeds of each way of the first queries."""
    results = results_of("first-queries")
    rows = []
    for name, found in pd.DataFrame(results["rows"]).groupby("attention", sort=False):
        loss = found["validation_loss"]
        perplexity = f"{found['validation_perplexity'].mean():.3f}"
        spread = f"{loss.mean():.4f} ± {loss.std():.4f}"
        rows.append([name, str(len(found)), spread, perplexity, f"{found['largest_gradient_norm'].max():.1f}"])
    about = f"{results['settings']['max_steps']} steps; "
    header = ["attention", "seeds", "validation loss, nats a byte", "perplexity", "largest gradient"]
    return table(results, header, rows, about)


def hub() -> str:
    results = results_of("hub")
    found = {(row["model"], row["transfer"]): row for row in results["rows"]}
    labels = {
        ("own work", "seconds"): "building the folder and all checks, our own work",
        ("publish", "seconds"): "`scripts/publish.py`, the whole process, checks included",
        ("pull and predict", "printed_seconds"): "a new process downloads and has printed the first prediction",
        ("pull and predict", "seconds"): "the same, until the process has ended",
    }
    rows = []
    for (step, figure), label in labels.items():
        spread = [found[step, transfer][figure] for transfer in ("xet", "lfs")]
        processor = found[step, "xet"].get("processor_seconds") if figure == "seconds" else None
        cells = [f"{each['median']:.1f} ({each['least']:.1f} to {each['most']:.1f})" for each in spread]
        rows.append([label, *cells, "" if processor is None else f"{processor['median']:.1f}"])
    head = f"seconds, median of {results['rounds']} rounds and range"
    return table(results, [head, "by Xet", "by LFS", "processor time, by Xet"], rows)


def figure(number: int) -> str:
    """One of the paper's, its pictures and whether its claim holds here."""
    attention, baseline = FIGURES[number]
    numbers = "-".join(str(other) for other, one in FIGURES.items() if one.baseline == baseline)
    pictures, sentences = [], []
    for back_end in ("eager", "sdpa"):
        results = results_of(f"figure-{numbers}-{back_end}")
        pictures.append(f"![Figure {number}, {back_end}](../results/figure-{number}-{back_end}.png)")
        sentences.append(f"- On {back_end}. {claims(attention, results['rows'])}")
    return "\n".join([*pictures, "", f"`{attention}` over `{baseline}`:", "", *sentences])


TABLES: dict[str, Callable[[], str]] = {
    "layers": layers,
    "costs": partial(layers, only=("bn", "sh", "bn+sh", "bn+sh:256", 512, 1024, 4096, 16384)),
    "causal layers": partial(layers, "causal-training-128x8"),
    "decoding": partial(layers, "decoding-128x8"),
    "layers on a GPU": partial(layers, "attention-training-512x8", on_gpu=True),
    "layers on a GPU, inference": partial(layers, "attention-inference-512x8", on_gpu=True),
    "first queries": first_queries,
    "text models": text_models,
    "vision models": vision_models,
    "short inputs": short,
    "integration": integration,
    "redundancy": redundancy,
    "hub": hub,
    "estimator": estimator,
    **{f"figure {number}": partial(figure, number) for number in FIGURES},
}


def front_pictures() -> None:
    """The README's picture, for light and for dark pages."""
    results = results_of("attention-training-128x8")
    times = {name: {} for name in FRONT}
    for row in results["rows"]:
        if row["attention"] in FRONT:
            times[row["attention"]][row["tokens"]] = row["ms"]["median"]
    settings, hardware = results["settings"], results["hardware"]
    about = f"one layer, width {settings['width']}, {settings['heads']} heads, fused attention\n"
    about += f"{hardware['processor']}, {hardware['threads']} threads, torch {results['versions']['torch']}"
    for shade in ("light", "dark"):
        named = {FRONT[name]: of for name, of in times.items()}
        write_pictures(plot_times(named, about, dark=shade == "dark"), RESULTS, f"time-{shade}")


def rendered(document: str) -> str:
    """A document's text with its tables as the results give them."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for name, render in TABLES.items():
        if f"<!-- {name} -->" in text:
            text = replace_between(text, name, render())
    return text


def main() -> None:
    front_pictures()
    for document in DOCUMENTS:
        write_atomically(ROOT / document, rendered(document))
        print(document)


if __name__ == "__main__":
    main()
