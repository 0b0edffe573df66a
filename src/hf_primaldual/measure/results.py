"""Files of figures, named by what was measured and on what."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from .environment import environment


def save_results(folder: str | Path, name: str, results: dict[str, Any]) -> Path:
    """
    Writes figures with the hardware and the versions that they were measured with.

    Args:
        folder (`str` or `Path`): made if there is none.
        name (`str`): what was measured; processor or accelerator and torch's version follow it in the file's name.
        results (`dict`): settings and figures, as JSON holds them.

    Returns:
        The file.
    """
    results = results | environment()
    machine = results["hardware"]["accelerator"] or results["hardware"]["processor"]
    full_name = f"{name} {machine} torch {torch.__version__}"
    path = Path(folder) / (re.sub(r"[^A-Za-z0-9.+]+", "-", full_name).strip("-").lower() + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return path
