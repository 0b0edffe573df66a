"""
The attentions of *A Primal-Dual Framework for Transformers and Neural Networks* (ICLR 2023) for transformers.

Importing the package registers its classes with transformers' Auto classes. What needs torch's modules is imported
when it is first used, so that the import itself stays light.
"""

import importlib
from typing import TYPE_CHECKING

import torch  # noqa: F401  Imported by transformers' Auto classes instead, it takes longer.
from transformers.models.auto import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from .modeling.configuration_primal_dual import PRESETS, AttentionChoices, PrimalDualConfig
from .modeling.configuration_primal_dual_models import PrimalDualTimeSeriesConfig, PrimalDualViTConfig
from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor

if TYPE_CHECKING:
    from .modeling.attention_primal_dual import PrimalDualAttention
    from .modeling.modeling_primal_dual_time_series import (
        PrimalDualTimeSeriesForSequenceClassification,
        PrimalDualTimeSeriesModel,
    )
    from .modeling.modeling_primal_dual_vit import PrimalDualViTForImageClassification, PrimalDualViTModel
    from .modeling.pipeline_primal_dual import TimeSeriesClassificationPipeline

__version__ = "0.1.0"

_LAZY = {
    "PrimalDualAttention": "attention_primal_dual",
    "PrimalDualTimeSeriesForSequenceClassification": "modeling_primal_dual_time_series",
    "PrimalDualTimeSeriesModel": "modeling_primal_dual_time_series",
    "PrimalDualViTForImageClassification": "modeling_primal_dual_vit",
    "PrimalDualViTModel": "modeling_primal_dual_vit",
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

    def __init__(self, name: str, config_class: type):
        self.__name__ = name
        self.config_class = config_class

    def __getattr__(self, attribute: str):
        return getattr(__getattr__(self.__name__), attribute)

    def __call__(self, *args, **kwargs):
        return __getattr__(self.__name__)(*args, **kwargs)


for _config, _model, _auto_class, _classifier in (
    (PrimalDualTimeSeriesConfig, "PrimalDualTimeSeries", AutoModelForSequenceClassification, "SequenceClassification"),
    (PrimalDualViTConfig, "PrimalDualViT", AutoModelForImageClassification, "ImageClassification"),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _LazyModel(f"{_model}Model", _config))
    _auto_class.register(_config, _LazyModel(f"{_model}For{_classifier}", _config))
AutoFeatureExtractor.register(PrimalDualTimeSeriesConfig, PrimalDualTimeSeriesFeatureExtractor)

__all__ = [
    "PRESETS",
    "AttentionChoices",
    "PrimalDualAttention",
    "PrimalDualConfig",
    "PrimalDualTimeSeriesConfig",
    "PrimalDualTimeSeriesFeatureExtractor",
    "PrimalDualTimeSeriesForSequenceClassification",
    "PrimalDualTimeSeriesModel",
    "PrimalDualViTConfig",
    "PrimalDualViTForImageClassification",
    "PrimalDualViTModel",
    "TimeSeriesClassificationPipeline",
]
