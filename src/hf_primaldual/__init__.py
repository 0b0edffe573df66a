"""The attentions of *A Primal-Dual Framework for Transformers and Neural Networks* (ICLR 2023) for transformers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .integration.apply import apply
from .integration.calibration import calibrate
from .integration.conversion import convert
from .modeling.attention_primal_dual import PrimalDualAttention
from .modeling.configuration_primal_dual import PrimalDualConfig
from .modeling.configuration_primal_dual_models import (
    PrimalDualTextConfig,
    PrimalDualTimeSeriesConfig,
    PrimalDualViTConfig,
)
from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor
from .modeling.modeling_primal_dual_language import PrimalDualTextForCausalLM
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
from .modeling.presets_primal_dual import PRESETS, AttentionChoices
from .registration import register

__version__ = "0.1.0"

register()


# Of modules that take longer to import than all the rest, and need libraries that are not always installed.
_LATER = {"DistillationTrainer": ".integration.distillation", "PrimalDualTimeSeriesClassifier": ".estimator"}

if TYPE_CHECKING:
    from .estimator import PrimalDualTimeSeriesClassifier as PrimalDualTimeSeriesClassifier
    from .integration.distillation import DistillationTrainer as DistillationTrainer
else:
    # Hidden from type checkers, for which any name would then be one of this module's.
    def __getattr__(name: str) -> Any:
        if name in _LATER:
            return getattr(import_module(_LATER[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "PRESETS",
    "AttentionChoices",
    "PrimalDualAttention",
    "PrimalDualConfig",
    "PrimalDualTextConfig",
    "PrimalDualTextForCausalLM",
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
    "apply",
    "calibrate",
    "convert",
]
