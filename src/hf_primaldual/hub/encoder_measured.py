"""What can be measured of a converted encoder without labels, as its results keep it."""

import datetime
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ..data.files import sha256_of
from ..measure import attention_share, count_flops, environment, inference, interleaved
from .checks import without_places
from .schema import SCHEMA_VERSION


def measure_encoder(
    original: PreTrainedModel,
    converted: PreTrainedModel,
    batches: Iterable[Mapping[str, torch.Tensor]],
    embed: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor],
    rounds: int = 5,
) -> dict[str, Any]:
    """
    What can be said of an encoder without labels: `evaluations`, with the mean cosine to the original's embeddings,
    and `efficiency` on the first of the examples, alone; both at the size of these examples.

    Args:
        batches (`Iterable` of `dict`): examples that nothing was measured or trained on.
        embed (`Callable`): of the output of a model and a batch.
        rounds (`int`): timed calls of each model.
    """
    models, cosines, first = {"original": original.eval(), "converted": converted.eval()}, [], None
    for batch in batches:
        with torch.inference_mode():
            pair = [embed(model(**batch), batch).flatten(1).float() for model in models.values()]
        cosines.append(torch.cosine_similarity(*pair))
        # Without its padding, which nobody would compute for it alone.
        first = first or {name: each[:1] for name, each in batch.items()}
    if first.get("attention_mask") is not None:
        real = first["attention_mask"][0].bool()
        first = {name: each[:, real] if each.shape[1:] == real.shape else each for name, each in first.items()}
    timings = interleaved({name: inference(model, first) for name, model in models.items()}, rounds=rounds)
    with torch.inference_mode():
        size = {"tokens": original(**first).last_hidden_state.shape[1]}
    if "pixel_values" in first:
        size["image_size"] = list(first["pixel_values"].shape[-2:])
    costs = {
        name: {"forward_flops": count_flops(model, **first), "inference_ms": timings[name].milliseconds()}
        for name, model in models.items()
    }
    cosine = float(torch.cat(cosines).mean())
    return {
        "schema": SCHEMA_VERSION,
        "date": datetime.date.today().isoformat(),
        "task": "image-feature-extraction" if "pixel_values" in first else "feature-extraction",
        "parameters": converted.num_parameters(),
        "evaluations": [{**size, "cosine": cosine, "probes": []}],
        "efficiency": [{**size, "batch": 1, "attention_share": attention_share(original, **first), **costs}],
        **environment(),
    }


def attention_of(config: PreTrainedConfig, task: str) -> dict[str, Any]:
    """The factors of each layer's heads, and what is left of attention's products."""
    scales = config.resolved_head_scales() if "downsampled" in config.choices.training_set else None
    if scales is not None and not isinstance(scales[0], list):
        scales = [scales] * config.num_hidden_layers
    sides = 2 if task == "image-feature-extraction" else 1
    left = [factor**-sides for layer in scales or [[1]] for factor in layer]
    return {"attention": config.attention, "head_scales": scales, "cost": sum(left) / len(left)}


def original_of(teacher: str) -> dict[str, Any]:
    """What is known of the checkpoint that is converted: its weights' digests where it is a folder."""
    files = sorted(Path(teacher).glob("*.safetensors"))
    return {
        "name": without_places(teacher),
        "source": "a local folder" if Path(teacher).is_dir() else "the Hub",
        "sha256": {file.name: sha256_of(file) for file in files},
        "licence": None,
    }


__all__ = ["attention_of", "measure_encoder", "original_of"]
