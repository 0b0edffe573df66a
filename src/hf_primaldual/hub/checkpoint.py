"""A self-contained checkpoint folder: weights, configuration, processor, code, results, plots and card."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from .card import write_card
from .checks import RECORD
from .results import save_results

# Importing it takes seconds, which whoever only checks or publishes a folder need not wait for.
if TYPE_CHECKING:
    from transformers import PreTrainedModel


def save_checkpoint(
    folder: str | os.PathLike,
    model: "PreTrainedModel",
    processor: Any,
    results: Mapping[str, Any],
    plots: Sequence[str | os.PathLike] = (),
    inputs: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """
    Writes everything that loading elsewhere needs, code included, and the card rendered from `results`.

    The folder is built beside its place and moved there when it is whole: a failure leaves what was there before.

    Args:
        folder: The checkpoint's place.
        model: What was trained.
        processor: The feature extractor, tokenizer or image processor that its inputs come from.
        results: What `results.json` is to hold (`hub.results`).
        plots: Pictures to put beside the card, by path: those that `results["plots"]` names, each in any folder.
        inputs: The model's inputs for a few examples, without labels. They are kept in `RECORD` with the logits that
            they give: who publishes or downloads the checkpoint can tell whether it is the one that was trained.

    Raises:
        ValueError: The results do not follow the schema of `hub.results`.
        FileNotFoundError: A plot is not there, or the results name one that is not among `plots`.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # mkdtemp makes a folder for its owner alone; a checkpoint is as readable as any other folder.
        building.chmod(0o777 & ~_umask())
        model.save_pretrained(building)
        processor.save_pretrained(building)
        for plot in plots:
            shutil.copy(plot, building)
        if inputs is not None:
            save_file(record_logits(model, inputs), building / RECORD)
        save_results(results, building / "results.json")
        write_card(building)
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


@torch.no_grad()
def record_logits(model: "PreTrainedModel", inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The content of `RECORD`: `inputs`, and what the model, in evaluation mode, makes of them."""
    training = model.training
    model.eval()
    logits = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).logits
    model.train(training)
    tensors = {f"input.{name}": tensor for name, tensor in inputs.items()} | {"logits": logits}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


__all__ = ["record_logits", "save_checkpoint"]
