"""A self-contained checkpoint folder: weights, configuration, feature extractor, code, results and card."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .card import write_card
from .results import save_results


def save_checkpoint(
    folder: str | os.PathLike,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    results: Mapping[str, Any],
) -> Path:
    """
    Writes everything that loading elsewhere needs, code included, and the card rendered from `results`.

    The folder is built beside its place and moved there when it is whole: a failure leaves what was there before.

    Raises:
        ValueError: The results do not follow the schema of `hub.results`.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # mkdtemp makes a folder for its owner alone; a checkpoint is as readable as any other folder.
        building.chmod(0o777 & ~_umask())
        model.save_pretrained(building)
        feature_extractor.save_pretrained(building)
        save_results(results, building / "results.json")
        write_card(building)
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


__all__ = ["save_checkpoint"]
