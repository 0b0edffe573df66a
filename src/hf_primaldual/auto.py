"""The three families in transformers' Auto classes."""

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
        return getattr(_public(self.__name__), attribute)

    def __call__(self, *args, **kwargs):
        return _public(self.__name__)(*args, **kwargs)


def register_families() -> None:
    """Makes the families known to each of transformers' Auto classes, now or as soon as it is imported."""
    after_import("transformers.models.auto.configuration_auto", _register_configurations)
    after_import("transformers.models.auto.feature_extraction_auto", _register_feature_extractor)
    after_import("transformers.models.auto.modeling_auto", _register_models)


def _register_configurations() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    for name, *_ in _FAMILIES:
        AutoConfig.register(_public(name).model_type, _public(name))


def _register_feature_extractor() -> None:
    from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor

    extractor = _public("PrimalDualTimeSeriesFeatureExtractor")
    AutoFeatureExtractor.register(_public("PrimalDualTimeSeriesConfig"), extractor)


def _register_models() -> None:
    from transformers.models.auto import modeling_auto

    for name, encoder, auto_class, classifiers in _FAMILIES:
        config_class = _public(name)
        modeling_auto.AutoModel.register(config_class, _LazyModel(encoder, config_class))
        heads = tuple(_LazyModel(classifier, config_class) for classifier in classifiers)
        # Of several a checkpoint names its own.
        getattr(modeling_auto, auto_class).register(config_class, heads if len(heads) > 1 else heads[0])


__all__ = ["register_families"]
