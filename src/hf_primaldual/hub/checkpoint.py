"""A self-contained checkpoint folder: weights, configuration, processor, code, results, plots and card."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

import hf_primaldual

from ..modeling.modeling_primal_dual import save_family
from .card import write_card
from .checks import check_replaceable
from .record import OUTPUTS, RECORD, draw_inputs
from .results import save_results


def with_code(folder: Path, place: Path) -> Path:
    """
    A checkpoint's folder; or where its code was left out, as in this project's own repository, a copy of it in the
    folder `place` with the code of this package.
    """
    file = folder / "config.json"
    names = json.loads(file.read_text(encoding="utf-8")).get("auto_map", {}) if file.exists() else {}
    if all((folder / f"{name.partition('.')[0]}.py").exists() for name in names.values()):
        return folder
    whole = Path(shutil.copytree(folder, place / folder.name))
    save_family(whole, names)
    return whole


def save_checkpoint(
    folder: str | os.PathLike,
    model: PreTrainedModel,
    processor: Any,
    results: Mapping[str, Any],
    plots: Sequence[str | os.PathLike] = (),
) -> Path:
    """
    Writes everything that loading elsewhere needs, code included, the card rendered from `results`, and in `RECORD`
    what the model makes of inputs that are drawn, never of examples: who publishes or downloads the checkpoint can
    tell whether it is the one that was trained.

    The folder is built next to its place and moved there when it is whole: a failure leaves what was there before.

    Args:
        folder: The checkpoint's place.
        model: What was trained.
        processor: The feature extractor, tokenizer or image processor that its inputs come from.
        results: What `results.json` is to hold (`hub.results`).
        plots: Pictures to put beside the card, by path: those that `results["plots"]` names, each in any folder.

    Raises:
        ValueError: The results do not follow the schema of `hub.results`.
        FileExistsError: `folder` holds what is no file of a checkpoint, and would be lost.
        FileNotFoundError: A plot is not there, or the results name one that is not among `plots`.
    """
    # A link to a folder stays one: what it points to is replaced.
    given, folder = Path(folder), Path(folder).resolve()
    if folder.exists():
        check_replaceable(folder)
    building = folder.with_name(f".{folder.name}-{os.getpid()}")
    # What a process that was killed had left.
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        model.save_pretrained(building)
        processor.save_pretrained(building)
        for plot in plots:
            shutil.copy(plot, building)
        _write_record(building, model)
        save_results(results, building / "results.json")
        if (folder / "README.md").is_file():
            # For its words of a person, which the new card keeps.
            shutil.copy(folder / "README.md", building)
        write_card(building)
        _replace(folder, building)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return given


def _replace(folder: Path, by: Path) -> None:
    """Moves a folder into the place of another, which is there again if that fails."""
    old = by.with_name(f"{by.name}-old")
    if folder.exists():
        folder.rename(old)
    try:
        by.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_record(folder: str | os.PathLike) -> Path:
    """Writes `RECORD` of a checkpoint folder again, with inputs that are drawn, and returns its path."""
    config = _config(folder)
    # Refuses what is no model of this package.
    draw_inputs(config)
    return _write_record(Path(folder), getattr(hf_primaldual, config["architectures"][0]).from_pretrained(folder))


@torch.no_grad()
def _write_record(folder: Path, model: PreTrainedModel) -> Path:
    inputs = {name: torch.from_numpy(array) for name, array in draw_inputs(_config(folder)).items()}
    training = model.training
    model.eval()
    output = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
    model.train(training)
    name = next(name for name in OUTPUTS if name in output)
    tensors = {f"input.{name}": tensor for name, tensor in inputs.items()} | {name: output[name].cpu().contiguous()}
    save_file(tensors, folder / RECORD)
    return folder / RECORD


def _config(folder: str | os.PathLike) -> dict[str, Any]:
    return json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
