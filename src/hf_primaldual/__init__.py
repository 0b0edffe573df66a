"""
The attentions of *A Primal-Dual Framework for Transformers and Neural Networks* (ICLR 2023) for transformers.

Importing the package registers its classes with transformers' Auto classes. What needs torch's modules is imported
when it is first used, so that the import itself stays light.
"""

import importlib
from typing import TYPE_CHECKING

import torch  # noqa: F401  Imported by transformers' Auto classes instead, it takes longer.
from transformers.models.auto import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification

from .integration.registration import register_when_imported
from .modeling.configuration_primal_dual import PRESETS, AttentionChoices, PrimalDualConfig
from .modeling.configuration_primal_dual_models import PrimalDualTimeSeriesConfig
from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor

if TYPE_CHECKING:
    from .modeling.attention_primal_dual import PrimalDualAttention
    from .modeling.modeling_primal_dual_time_series import (
        PrimalDualTimeSeriesForSequenceClassification,
        PrimalDualTimeSeriesModel,
    )
    from .modeling.pipeline_primal_dual import TimeSeriesClassificationPipeline

__version__ = "0.1.0"

_LAZY = {
    "PrimalDualAttention": "attention_primal_dual",
    "PrimalDualTimeSeriesForSequenceClassification": "modeling_primal_dual_time_series",
    "PrimalDualTimeSeriesModel": "modeling_primal_dual_time_series",
    "TimeSeriesClassificationPipeline": "pipeline_primal_dual",
}


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".modeling.{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_LAZY})


class _LazyModel:
    """
    Stands for a model class in the Auto classes' mappings and imports it when one of them asks anything of it.

    Importing `PreTrainedModel` takes longer than torch and transformers together; whoever only reads a configuration
    need not pay for it.
    """

    config_class = PrimalDualTimeSeriesConfig

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(__getattr__(self._name), attribute)

    def __call__(self, *args, **kwargs):
        return __getattr__(self._name)(*args, **kwargs)


AutoConfig.register("primal_dual_time_series", PrimalDualTimeSeriesConfig)
AutoFeatureExtractor.register(PrimalDualTimeSeriesConfig, PrimalDualTimeSeriesFeatureExtractor)
AutoModel.register(PrimalDualTimeSeriesConfig, _LazyModel("PrimalDualTimeSeriesModel"))
AutoModelForSequenceClassification.register(
    PrimalDualTimeSeriesConfig, _LazyModel("PrimalDualTimeSeriesForSequenceClassification")
)

register_when_imported()

__all__ = [
    "PRESETS",
    "AttentionChoices",
    "PrimalDualAttention",
    "PrimalDualConfig",
    "PrimalDualTimeSeriesConfig",
    "PrimalDualTimeSeriesFeatureExtractor",
    "PrimalDualTimeSeriesForSequenceClassification",
    "PrimalDualTimeSeriesModel",
    "TimeSeriesClassificationPipeline",
]
