"""Files of figures, named by what was measured and on what, and a comparison of two."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .environment import environment

# What a row is about; everything else in it is a figure.
IDENTITY = ("model", "attention", "baseline", "attn_implementation", "width", "tokens", "image_size", "batch", "seed")


def save_results(folder: str | Path, name: str, results: dict[str, Any]) -> Path:
    """
    Writes figures with the hardware and the versions that they were measured with into a folder, which is made if
    there is none, as `NAME-MACHINE-torch-VERSION.json`, and their `rows`, if there are any, as a CSV table too.
    """
    results, path = results | environment(), results_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if results.get("rows"):
        import pandas as pd

        # As objects: whole numbers stay whole in a column that some rows lack.
        pd.DataFrame([flat(row) for row in results["rows"]], dtype=object).to_csv(
            path.with_suffix(".csv"), index=False
        )
    return path


def results_path(folder: str | Path, name: str) -> Path:
    """Where `save_results` writes on this machine."""
    hardware = environment()["hardware"]
    full_name = f"{name} {hardware['accelerator'] or hardware['processor']} torch {torch.__version__}"
    return Path(folder) / (re.sub(r"[^A-Za-z0-9.+]+", "-", full_name).strip("-").lower() + ".json")


def compare(
    file_a: str | Path, file_b: str | Path, allow_other_versions: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """
    The ratios of two files that `save_results` wrote, row by row.

    Returns:
        The rows that both files have, each with what it is about and for every figure that both have the ratio of b to
        a, `None` where a has 0; and what the rows are about that only one of them has.

    Raises:
        ValueError: the files are of other hardware or versions, hold no rows, or hold one row twice.
    """
    a, b = (json.loads(Path(file).read_text(encoding="utf-8")) for file in (file_a, file_b))
    different = [
        f"{kind}.{key}: {a[kind].get(key)} and {b[kind].get(key)}"
        for kind in ("hardware", "versions")
        for key in a[kind] | b[kind]
        if a[kind].get(key) != b[kind].get(key)
    ]
    if different and not allow_other_versions:
        raise ValueError(
            f"{Path(file_a).name} and {Path(file_b).name} are of other hardware or versions ({'; '.join(different)}); "
            "pass `allow_other_versions=True` to compare them all the same."
        )
    rows_a, rows_b = (_by_identity(results, file) for results, file in ((a, file_a), (b, file_b)))
    paired = [
        {**dict(about), **_ratios(flat(row), flat(rows_b[about]))} for about, row in rows_a.items() if about in rows_b
    ]
    alone = [dict(about) for about in [*rows_a, *rows_b] if about not in rows_a or about not in rows_b]
    return paired, alone


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row without mappings inside of it: `{"ms": {"median": 1}}` becomes `{"ms.median": 1}`."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        cells |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return cells


def _by_identity(results: dict[str, Any], file: str | Path) -> dict[tuple, dict[str, Any]]:
    if not results.get("rows"):
        raise ValueError(f"{Path(file).name} holds no `rows` that could be compared.")
    rows = {tuple((key, row[key]) for key in IDENTITY if key in row): row for row in results["rows"]}
    if len(rows) < len(results["rows"]):
        raise ValueError(f"{Path(file).name} holds rows that are told apart by none of {', '.join(IDENTITY)}.")
    return rows


def _ratios(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
    figures = [key for key in a if key not in IDENTITY and isinstance(a[key], int | float)]
    return {key: b[key] / a[key] if a[key] else None for key in figures if isinstance(b.get(key), int | float)}
