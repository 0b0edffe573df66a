"""
The tables of docs/conversion.md out of results/checkpoint-*.json.

    python scripts/benchmarks/checkpoint_tables.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paths  # noqa: F401
from tables import percent

from hf_primaldual.hub.markdown import markdown_table, replace_between

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conversion.md"
NAMES = ("minilm", "dinov2")
_PROBES = {"linear": "linear probe", "nearest": "nearest neighbour"}


def load(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / f"checkpoint-{name}.json").read_text(encoding="utf-8"))


def released_table(results: Mapping[str, Any]) -> str:
    """Of what was read on the test set: cosine, accuracies, and differences to the original in points."""
    rows = [row for row in results["rows"] if "test_cosine" in row]
    size = "tokens" if results["times"][0]["size"] == results["times"][0]["tokens"] else "pixels"
    table = []
    for row in sorted(rows, key=lambda row: (row["size"], -row["cost"])):
        theirs = next(each for each in rows if each["model"] == "softmax" and each["size"] == row["size"])
        cells = [str(row["size"]), row["model"], f"{row['cost']:.2f}", f"{row['test_cosine']:.3f}"]
        for key in _PROBES:
            own, other = row[f"test_{key}"], theirs[f"test_{key}"]
            cells += [f"{percent(own)} %", "" if row is theirs else f"{100 * (own - other):+.1f}"]
        table.append(cells)
    heads = [cell for probe in _PROBES.values() for cell in (probe, "points")]
    return markdown_table([size, "model", "cost", "cosine", *heads], table)


def curve_table(results: Mapping[str, Any]) -> str:
    """On validation: the same factors in chosen and in random places, and the fixed pattern, by their cost."""
    at_size = [row for row in results["rows"] if row["size"] == results["rows"][0]["size"]]
    table = []
    for cost in sorted({round(row["cost"], 2) for row in at_size}, reverse=True):
        cells = [f"{cost:.2f}"]
        near = [row for row in at_size if round(row["cost"], 2) == cost]
        for kind in ("softmax", "calibrated", "shuffled", "fixed", "distilled"):
            own = [row for row in near if row["model"].startswith(kind)]
            cells.append(
                " and ".join(
                    f"{row['validation_cosine']:.3f}, "
                    + ", ".join(percent(row[f"validation_{key}"]) for key in _PROBES)
                    for row in own
                )
            )
        table.append(cells)
    header = ["cost", "softmax", "calibrated", "in random places", "fixed pattern", "distilled"]
    kept = [place for place in range(len(header)) if any(row[place] for row in table)]
    return markdown_table([header[i] for i in kept], [[row[i] for i in kept] for row in table])


def time_table(results: Mapping[str, Any]) -> str:
    """One input at a time: milliseconds, and the ratio to the original on sdpa."""
    table = []
    for row in results["times"]:
        theirs = next(each for each in results["times"] if each["model"] == "softmax" and each["size"] == row["size"])
        table.append(
            [
                str(row["size"]),
                f"{100 * row['attention_share']:.0f} %" if row is theirs else "",
                row["model"],
                "{median:,.1f} ({q1:,.1f} to {q3:,.1f})".format(**row["ms"]),
                f"{row['ms']['median'] / theirs['ms']['median']:.2f}",
                f"{row['forward_flops'] / theirs['forward_flops']:.2f}",
            ]
        )
    size = "tokens" if results["times"][0]["size"] == results["times"][0]["tokens"] else "pixels"
    header = [size, "attention's share of FLOPs", "model", "ms (quartiles)", "time to softmax", "FLOPs to softmax"]
    return markdown_table(header, table)


def insert_tables(text: str, name: str, results: Mapping[str, Any]) -> str:
    """The document with the tables of a checkpoint's results."""
    for kind, render in (("test", released_table), ("curve", curve_table), ("time", time_table)):
        text = replace_between(text, f"{name} {kind}", render(results))
    return text


if __name__ == "__main__":
    content = DOCUMENT.read_text(encoding="utf-8")
    for each in NAMES:
        content = insert_tables(content, each, load(each))
    DOCUMENT.write_text(content, encoding="utf-8")
    print(f"written: {DOCUMENT}")
