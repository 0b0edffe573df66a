"""A small checkpoint, ready to be published, and what of it is published, for the tests of this folder."""

import json
from pathlib import Path

import torch

from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.checkpoint import save_checkpoint
from tests.hub.tables import table
from tests.modeling.series import CHANNELS, small_model


def ready_checkpoint(folder: Path, **fields) -> Path:
    """An untrained series model with its extractor, record, results, plot and card."""
    results = table()
    results["dataset"]["channels"] = CHANNELS
    plot = folder.parent / "learning_curves.png"
    plot.write_bytes(b"a picture")
    extractor = PrimalDualTimeSeriesFeatureExtractor(CHANNELS).fit([torch.randn(9, CHANNELS).numpy()])
    return save_checkpoint(folder, small_model(**fields), extractor, results, [plot])


def published(folder: Path, repo_id: str) -> dict[str, bytes]:
    """The content of each file in the repository: the folder's, but that results and card say their address."""
    results = {**json.loads((folder / "results.json").read_text()), "repo_id": repo_id}
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {
        "results.json": (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode(),
        "README.md": render_card(results).encode(),
    }
