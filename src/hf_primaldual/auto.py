"""The three families in transformers' Auto classes, and the pipeline of series among its pipelines."""

import importlib

from .deferred import after_import

# Of each family its configuration, its encoder, the Auto class of its classifiers, and these; names of the package.
_FAMILIES = (
    (
        "PrimalDualTextConfig",
        "PrimalDualTextModel",
        "AutoModelForSequenceClassification",
        ("PrimalDualTextForSequenceClassification", "PrimalDualTextForDocumentMatching"),
    ),
    (
        "PrimalDualTimeSeriesConfig",
        "PrimalDualTimeSeriesModel",
        "AutoModelForSequenceClassification",
        ("PrimalDualTimeSeriesForSequenceClassification",),
    ),
    (
        "PrimalDualViTConfig",
        "PrimalDualViTModel",
        "AutoModelForImageClassification",
        ("PrimalDualViTForImageClassification",),
    ),
)


def _public(name: str) -> type:
    """A class by its name in the package, which imports it now."""
    return getattr(importlib.import_module(__package__), name)


class _LazyClass:
    """
    Stands for a class of a model in the Auto classes' mappings, or of a pipeline among transformers' pipelines, and
    imports it when transformers asks anything of it.

    Importing `PreTrainedModel` takes longer than torch and transformers together; whoever only reads a configuration
    need not pay for it.
    """

    def __init__(self, name: str, config_class: type | None = None):
        # What the mappings ask for when they only look for a class among several.
        self.__name__, self.config_class = name, config_class

    def __getattr__(self, attribute: str):
        return getattr(_public(self.__name__), attribute)

    def __call__(self, *args, **kwargs):
        return _public(self.__name__)(*args, **kwargs)


def register_families() -> None:
    """
    Makes the families known to transformers' Auto classes and `pipeline`, now or as soon as they are imported.

    Loading a checkpoint of the families then runs the code of this package and none of the checkpoint's, so that
    nobody is asked for `trust_remote_code`.
    """
    after_import("transformers.models.auto.configuration_auto", _register_configurations)
    after_import("transformers.models.auto.feature_extraction_auto", _register_feature_extractor)
    after_import("transformers.models.auto.modeling_auto", _register_models)
    after_import("transformers.models.auto.processing_auto", _register_processor)
    after_import("transformers.pipelines", _register_pipeline)


def _register_configurations() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    for name, *_ in _FAMILIES:
        AutoConfig.register(_public(name).model_type, _public(name))


def _register_feature_extractor() -> None:
    from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor

    extractor = _public("PrimalDualTimeSeriesFeatureExtractor")
    AutoFeatureExtractor.register(_public("PrimalDualTimeSeriesConfig"), extractor)


def _register_processor() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    # Else AutoProcessor would look for an image processor first, in code that the checkpoint does not have.
    AutoProcessor.register(_public("PrimalDualTimeSeriesConfig"), _public("PrimalDualTimeSeriesFeatureExtractor"))


def _register_models() -> None:
    from transformers.models.auto import modeling_auto

    for name, encoder, auto_class, classifiers in _FAMILIES:
        config_class = _public(name)
        modeling_auto.AutoModel.register(config_class, _LazyClass(encoder, config_class))
        heads = tuple(_LazyClass(classifier, config_class) for classifier in classifiers)
        # Of several a checkpoint names its own.
        getattr(modeling_auto, auto_class).register(config_class, heads if len(heads) > 1 else heads[0])


def _register_pipeline() -> None:
    from transformers import AutoModelForSequenceClassification
    from transformers.pipelines import PIPELINE_REGISTRY

    PIPELINE_REGISTRY.register_pipeline(
        "time-series-classification",
        _LazyClass("TimeSeriesClassificationPipeline"),
        pt_model=AutoModelForSequenceClassification,
        type="multimodal",
    )


__all__ = ["register_families"]
