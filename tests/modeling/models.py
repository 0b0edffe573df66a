"""The models that what every model honours is tested with, and a batch for each."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from hf_primaldual import (
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualViTForImageClassification,
)
from tests.modeling import images, series, texts
from tests.modeling.cases import PRESET_CASES


class ModelCase(NamedTuple):
    """A small classifier by its preset and fields, a batch with labels, and the class that loads it."""

    make: Callable
    batch: Callable[[], dict[str, torch.Tensor]]
    model_class: type


MODELS = {
    "series": ModelCase(series.small_model, series.series_batch, PrimalDualTimeSeriesForSequenceClassification),
    "text": ModelCase(texts.small_model, texts.text_batch, PrimalDualTextForSequenceClassification),
    "matching": ModelCase(texts.small_matcher, texts.document_batch, PrimalDualTextForDocumentMatching),
    "vit": ModelCase(images.small_model, images.image_batch, PrimalDualViTForImageClassification),
}

# Where each value may be an unlikely large one in the padding.
FLOATS = ("past_values", "pixel_values")

models = pytest.mark.parametrize("name", MODELS)
# Every preset once, in one model after the other.
_PAIRS = [(list(MODELS)[place % len(MODELS)], preset) for place, preset in enumerate(PRESET_CASES)]
presets_in_turn = pytest.mark.parametrize(("name", "preset"), _PAIRS, ids=["-".join(pair) for pair in _PAIRS])


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    """A batch without its labels, its padding not larger than the rest."""
    batch = MODELS[name].batch()
    batch.pop("labels")
    return {key: value.clamp(-2, 2) if key in FLOATS else value for key, value in batch.items()}
