"""What can be measured of a converted encoder without labels, as its results keep it."""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from ..measure import attention_share, count_flops, environment, inference, interleaved
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


__all__ = ["measure_encoder"]
