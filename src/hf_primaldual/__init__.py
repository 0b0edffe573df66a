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

from .integration.registration import register_when_imported
from .modeling.configuration_primal_dual import PRESETS, AttentionChoices, PrimalDualConfig
from .modeling.configuration_primal_dual_models import (
    PrimalDualTextConfig,
    PrimalDualTimeSeriesConfig,
    PrimalDualViTConfig,
)
from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor

if TYPE_CHECKING:
    from .integration.annealing import AnnealToTarget
    from .integration.conversion import convert
    from .modeling.attention_primal_dual import PrimalDualAttention
    from .modeling.modeling_primal_dual_text import (
        PrimalDualTextForDocumentMatching,
        PrimalDualTextForSequenceClassification,
        PrimalDualTextModel,
    )
    from .modeling.modeling_primal_dual_time_series import (
        PrimalDualTimeSeriesForSequenceClassification,
        PrimalDualTimeSeriesModel,
    )
    from .modeling.modeling_primal_dual_vit import PrimalDualViTForImageClassification, PrimalDualViTModel
    from .modeling.pipeline_primal_dual import TimeSeriesClassificationPipeline

__version__ = "0.1.0"

_LAZY = {
    "AnnealToTarget": "integration.annealing",
    "convert": "integration.conversion",
    "PrimalDualAttention": "modeling.attention_primal_dual",
    "PrimalDualTextForDocumentMatching": "modeling.modeling_primal_dual_text",
    "PrimalDualTextForSequenceClassification": "modeling.modeling_primal_dual_text",
    "PrimalDualTextModel": "modeling.modeling_primal_dual_text",
    "PrimalDualTimeSeriesForSequenceClassification": "modeling.modeling_primal_dual_time_series",
    "PrimalDualTimeSeriesModel": "modeling.modeling_primal_dual_time_series",
    "PrimalDualViTForImageClassification": "modeling.modeling_primal_dual_vit",
    "PrimalDualViTModel": "modeling.modeling_primal_dual_vit",
    "TimeSeriesClassificationPipeline": "modeling.pipeline_primal_dual",
}


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
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
        # What the mappings ask for when they only look for a class among several.
        self.__name__, self.config_class = name, config_class

    def __getattr__(self, attribute: str):
        return getattr(__getattr__(self.__name__), attribute)

    def __call__(self, *args, **kwargs):
        return __getattr__(self.__name__)(*args, **kwargs)


def _register(config_class: type, encoder: str, auto_class: type, *classifiers: str) -> None:
    """Makes a family known to the Auto classes; of several classifiers a checkpoint names its own."""
    AutoConfig.register(config_class.model_type, config_class)
    AutoModel.register(config_class, _LazyModel(encoder, config_class))
    heads = tuple(_LazyModel(name, config_class) for name in classifiers)
    auto_class.register(config_class, heads if len(heads) > 1 else heads[0])


_register(
    PrimalDualTextConfig,
    "PrimalDualTextModel",
    AutoModelForSequenceClassification,
    "PrimalDualTextForSequenceClassification",
    "PrimalDualTextForDocumentMatching",
)
_register(
    PrimalDualTimeSeriesConfig,
    "PrimalDualTimeSeriesModel",
    AutoModelForSequenceClassification,
    "PrimalDualTimeSeriesForSequenceClassification",
)
_register(
    PrimalDualViTConfig,
    "PrimalDualViTModel",
    AutoModelForImageClassification,
    "PrimalDualViTForImageClassification",
)
AutoFeatureExtractor.register(PrimalDualTimeSeriesConfig, PrimalDualTimeSeriesFeatureExtractor)

register_when_imported()

__all__ = [
    "PRESETS",
    "AnnealToTarget",
    "AttentionChoices",
    "PrimalDualAttention",
    "PrimalDualConfig",
    "PrimalDualTextConfig",
    "PrimalDualTextForDocumentMatching",
    "PrimalDualTextForSequenceClassification",
    "PrimalDualTextModel",
    "PrimalDualTimeSeriesConfig",
    "PrimalDualTimeSeriesFeatureExtractor",
    "PrimalDualTimeSeriesForSequenceClassification",
    "PrimalDualTimeSeriesModel",
    "PrimalDualViTConfig",
    "PrimalDualViTForImageClassification",
    "PrimalDualViTModel",
    "TimeSeriesClassificationPipeline",
    "convert",
]
