"""
Renders the committed results of the benchmarks into the tables of the README and of docs/: what stands between
`<!-- NAME -->` and `<!-- end of NAME -->` is replaced.

    python scripts/render_efficiency.py
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hf_primaldual.hub.results import write_atomically

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
DOCUMENTS = ("README.md", "docs/efficiency.md", "docs/hub.md")
# What the tables call the names of the results.
LABELS = {
    "sh:256": "`sh`, 256 points",
    "sparse:local": "`sparse`, window 256",
    "sparse": "`sparse`, window 256 and stride 128",
}


def results_of(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """
    The committed file of a measurement on a CPU, the one that the tables show.

    Raises:
        FileNotFoundError: when there is none, or more than one.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{name}-*.json"))]
    found = [results for results in found if results["hardware"]["accelerator"] is None]
    if len(found) != 1:
        raise FileNotFoundError(f"{folder.name} must hold one file {name}-*.json of a CPU, got {len(found)}.")
    return found[0]


def machine(results: dict[str, Any]) -> str:
    """What the figures were measured on and with."""
    hardware, versions = results["hardware"], results["versions"]
    return (
        f"{hardware['processor']}, {hardware['threads']} thread{'' if hardware['threads'] == 1 else 's'}, torch "
        f"{versions['torch']}, transformers {versions['transformers']}; ours"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def layers() -> str:
    results = results_of("attention-training-128x8")
    rows = results["rows"]
    lengths = sorted({row["tokens"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["attention"] for row in rows):
        own = sorted((row for row in rows if row["attention"] == name), key=lambda row: row["tokens"])
        if name == "softmax":
            lines.append(["`softmax` on sdpa, ms", *(f"{row['ms']['median']:.1f}" for row in own)])
        else:
            lines.append([LABELS.get(name, f"`{name}`"), *(f"{row['ratio']:.3f}" for row in own)])
    return f"({machine(results)})\n\n" + table(["attention", *(f"{length} tokens" for length in lengths)], lines)


def text_models() -> str:
    lines, shown = [], None
    for back_end in ("sdpa", "eager"):
        shown = results_of(f"text-model-128x8-{back_end}")
        rows = {(row["tokens"], row["model"]): row for row in shown["rows"]}
        for (tokens, name), row in rows.items():
            if name == "softmax":
                continue
            softmax = rows[tokens, "softmax"]
            lines.append(
                [
                    f"`{name}` on {back_end}",
                    str(tokens),
                    *(
                        f"{row[key]['median'] / softmax[key]['median']:.3f}"
                        for key in ("train_step_ms", "inference_ms")
                    ),
                    *(f"{row[key] / softmax[key]:.3f}" for key in ("train_step_flops", "peak_memory_bytes")),
                ]
            )
    head = ["in units of softmax on the same back-end", "tokens", "training step", "inference", "FLOPs", "peak memory"]
    return f"({machine(shown)})\n\n" + table(head, lines)


def vision_models() -> str:
    inference, training = results_of("vit-inference-batch8"), results_of("vit-training-batch8")
    rows = [("inference", row) for row in inference["rows"]] + [("training step", row) for row in training["rows"]]
    labels = {"softmax": "`softmax`", "bn": "`bn`", "bn+sh": "`bn+sh`, scale 2 on all heads"}
    lines = [
        [label, *(f"{row['ratio']:.3f}" for _, row in rows if row["model"] == name)] for name, label in labels.items()
    ]
    sizes = dict.fromkeys(f"{mode}, {row['image_size']}" for mode, row in rows)
    return f"({machine(inference)})\n\n" + table(["vision model", *sizes], lines)


def integration() -> str:
    results = results_of("integration-bert-384x12")
    lines = [[f"`{row['attention']}`", f"{row['ratio']:.3f}"] for row in results["rows"] if row["attention"] != "sdpa"]
    return f"({machine(results)})\n\n" + table(["`attn_implementation`", "in units of sdpa's time"], lines)


def rivals() -> str:
    """Rivals of texts and images whose accuracy was measured, at the longest length."""
    lines, shown = [], None
    for family in ("text", "image"):
        shown = results_of(f"rivals-{family}-float32")
        longest = max(row["tokens"] for row in shown["rows"])
        rows = [row for row in shown["rows"] if row["tokens"] == longest]
        costs = {row["model"]: row for row in rows if "parameters" in row}
        for row in rows:
            if "accuracy_mean" not in row:
                continue
            cost, softmax = costs[row["model"]], costs["softmax"]
            lines.append(
                [
                    f"{family}, `{row['model']}`",
                    *(
                        f"{cost[key]['median'] / softmax[key]['median']:.3f}"
                        for key in ("train_step_ms", "inference_ms")
                    ),
                    *(f"{cost[key] / softmax[key]:.3f}" for key in ("train_step_flops", "peak_memory_bytes")),
                    f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}",
                ]
            )
    head = [f"{longest} tokens", "training step", "inference", "FLOPs", "peak memory", "test accuracy, %"]
    return f"({machine(shown)})\n\n" + table(head, lines)


def redundancy() -> str:
    results = results_of("redundancy-japanesevowels")
    measures = ("output_distance", "map_distance", "output_cosine", "output_cka")
    lines = [
        [
            f"`{name}`",
            *(f"{figures[f'{key}_mean']:.3f} ± {figures[f'{key}_std']:.3f}" for key in measures),
            f"{100 * figures['test_accuracy_mean']:.1f} ± {100 * figures['test_accuracy_std']:.1f}",
        ]
        for name, figures in results["summary"].items()
    ]
    head = ["attention", *(f"`{key}`" for key in measures), "test accuracy, %"]
    seeds, settings = next(iter(results["summary"].values()))["seeds"], results["settings"]
    about = f"{settings['dataset']}, {settings['num_train_epochs']:g} epochs, {seeds} seeds"
    return f"({about}; {machine(results)})\n\n" + table(head, lines)


def hub() -> str:
    results = results_of("hub")
    rows = (
        ("own work", "seconds", "building the folder and all checks, our own work"),
        ("publish", "seconds", "`scripts/publish.py`, the whole process, checks included"),
        ("pull and predict", "printed_seconds", "a new process downloads and has printed the first prediction"),
        ("pull and predict", "seconds", "the same, until the process has ended"),
    )
    lines = []
    for step, figure, label in rows:
        by_transfer = {row["transfer"]: row for row in results["rows"] if row["model"] == step}
        spread = (by_transfer[transfer][figure] for transfer in ("xet", "lfs"))
        processor = by_transfer["xet"].get("processor_seconds") if figure == "seconds" else None
        lines.append(
            [
                label,
                *(f"{each['median']:.1f} ({each['least']:.1f} to {each['most']:.1f})" for each in spread),
                "" if processor is None else f"{processor['median']:.1f}",
            ]
        )
    head = [f"seconds, median of {results['rounds']} rounds and range", "by Xet", "by LFS", "processor time, by Xet"]
    return f"({machine(results)})\n\n" + table(head, lines)


TABLES: dict[str, Callable[[], str]] = {
    "layers": layers,
    "text models": text_models,
    "vision models": vision_models,
    "integration": integration,
    "redundancy": redundancy,
    "rivals": rivals,
    "hub": hub,
}


def rendered(document: str) -> str:
    """
    A document's text with its tables as the results give them.

    Raises:
        KeyError: for a table that is not known.
    """

    def replace(match: re.Match) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n{TABLES[name]()}\n<!-- end of {name} -->"

    text = (ROOT / document).read_text(encoding="utf-8")
    return re.sub(r"<!-- (?P<name>[a-z ]+) -->\n.*?<!-- end of (?P=name) -->", replace, text, flags=re.DOTALL)


def main() -> None:
    for document in DOCUMENTS:
        write_atomically(ROOT / document, rendered(document))
        print(document)


if __name__ == "__main__":
    main()
