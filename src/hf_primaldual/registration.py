"""What importing the package registers with transformers: Auto classes, the pipeline of series, attention names."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoProcessor,
)
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface
from transformers.pipelines import PIPELINE_REGISTRY

from .integration.attention import attention_function
from .integration.patches import patch_transformers
from .integration.settings import ATTENTIONS
from .modeling.configuration_primal_dual_models import (
    PrimalDualTextConfig,
    PrimalDualTimeSeriesConfig,
    PrimalDualViTConfig,
)
from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor
from .modeling.masks_primal_dual import attention_mask_of
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

# Of each family its configuration, its encoder, the Auto class of its classifier, and the classifier. Of several, a
# checkpoint names its own.
FAMILIES = (
    (
        PrimalDualTextConfig,
        PrimalDualTextModel,
        AutoModelForSequenceClassification,
        (PrimalDualTextForSequenceClassification, PrimalDualTextForDocumentMatching),
    ),
    (
        PrimalDualTimeSeriesConfig,
        PrimalDualTimeSeriesModel,
        AutoModelForSequenceClassification,
        PrimalDualTimeSeriesForSequenceClassification,
    ),
    (
        PrimalDualViTConfig,
        PrimalDualViTModel,
        AutoModelForImageClassification,
        PrimalDualViTForImageClassification,
    ),
)


def register() -> None:
    """
    Registers everything, once or again. Loading a checkpoint of the families then runs the code of this package and
    none of the checkpoint's, so that nobody is asked for `trust_remote_code`.
    """
    for config, encoder, auto_class, classifier in FAMILIES:
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, encoder, exist_ok=True)
        auto_class.register(config, classifier, exist_ok=True)
    AutoModelForCausalLM.register(PrimalDualTextConfig, PrimalDualTextForCausalLM, exist_ok=True)
    extractor = PrimalDualTimeSeriesFeatureExtractor
    AutoFeatureExtractor.register(PrimalDualTimeSeriesConfig, extractor, exist_ok=True)
    # Else AutoProcessor would look for an image processor first, in code that the checkpoint does not have.
    AutoProcessor.register(PrimalDualTimeSeriesConfig, extractor, exist_ok=True)
    PIPELINE_REGISTRY.register_pipeline(
        "time-series-classification",
        TimeSeriesClassificationPipeline,
        pt_model=AutoModelForSequenceClassification,
        type="multimodal",
    )
    for name in ATTENTIONS:
        AttentionInterface.register(name, attention_function(name))
        AttentionMaskInterface.register(name, attention_mask_of)
    patch_transformers()


__all__ = ["FAMILIES", "register"]
