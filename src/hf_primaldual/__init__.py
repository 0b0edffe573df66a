"""
The attentions of *A Primal-Dual Framework for Transformers and Neural Networks* (ICLR 2023) for transformers.

Importing the package registers its classes with transformers' Auto classes, and its attentions with transformers'
models, as soon as those are imported. Itself it imports nothing before it is used.
"""

import importlib
from typing import TYPE_CHECKING

from .auto import register_families
from .deferred import after_import

if TYPE_CHECKING:
    from .integration.annealing import AnnealToTarget
    from .integration.conversion import convert
    from .modeling.attention_primal_dual import PrimalDualAttention
    from .modeling.configuration_primal_dual import PRESETS, AttentionChoices, PrimalDualConfig
    from .modeling.configuration_primal_dual_models import (
        PrimalDualTextConfig,
        PrimalDualTimeSeriesConfig,
        PrimalDualViTConfig,
    )
    from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor
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
    "PRESETS": "modeling.configuration_primal_dual",
    "AnnealToTarget": "integration.annealing",
    "AttentionChoices": "modeling.configuration_primal_dual",
    "convert": "integration.conversion",
    "PrimalDualAttention": "modeling.attention_primal_dual",
    "PrimalDualConfig": "modeling.configuration_primal_dual",
    "PrimalDualTextConfig": "modeling.configuration_primal_dual_models",
    "PrimalDualTextForDocumentMatching": "modeling.modeling_primal_dual_text",
    "PrimalDualTextForSequenceClassification": "modeling.modeling_primal_dual_text",
    "PrimalDualTextModel": "modeling.modeling_primal_dual_text",
    "PrimalDualTimeSeriesConfig": "modeling.configuration_primal_dual_models",
    "PrimalDualTimeSeriesFeatureExtractor": "modeling.feature_extraction_primal_dual",
    "PrimalDualTimeSeriesForSequenceClassification": "modeling.modeling_primal_dual_time_series",
    "PrimalDualTimeSeriesModel": "modeling.modeling_primal_dual_time_series",
    "PrimalDualViTConfig": "modeling.configuration_primal_dual_models",
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


def _extend_configurations() -> None:
    from .configurations import extend_configurations

    extend_configurations()


def _register_attentions() -> None:
    from .integration.registration import register

    register()


def _register_with_adapters() -> None:
    from .integration.registration import register_with_adapters

    register_with_adapters()


register_families()
after_import("transformers.configuration_utils", _extend_configurations)
after_import("transformers.modeling_utils", _register_attentions)
after_import("peft.peft_model", _register_with_adapters)

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
