"""The three families in transformers' Auto classes."""

import importlib

from .deferred import after_import

# Of each family its configuration, its encoder, the Auto class of its classifiers, and these.
_FAMILIES = {
    "text": (
        "PrimalDualTextConfig",
        "PrimalDualTextModel",
        "AutoModelForSequenceClassification",
        ("PrimalDualTextForSequenceClassification", "PrimalDualTextForDocumentMatching"),
    ),
    "time_series": (
        "PrimalDualTimeSeriesConfig",
        "PrimalDualTimeSeriesModel",
        "AutoModelForSequenceClassification",
        ("PrimalDualTimeSeriesForSequenceClassification",),
    ),
    "vit": (
        "PrimalDualViTConfig",
        "PrimalDualViTModel",
        "AutoModelForImageClassification",
        ("PrimalDualViTForImageClassification",),
    ),
}


class _LazyModel:
    """
    Stands for a model class in the Auto classes' mappings and imports it when one of them asks anything of it.

    Importing `PreTrainedModel` takes longer than torch and transformers together; whoever only reads a configuration
    need not pay for it.
    """

    def __init__(self, family: str, name: str, config_class: type):
        # What the mappings ask for when they only look for a class among several.
        self.__name__, self.config_class = name, config_class
        self._module = f".modeling.modeling_primal_dual_{family}"

    def __getattr__(self, attribute: str):
        return getattr(self._model(), attribute)

    def __call__(self, *args, **kwargs):
        return self._model()(*args, **kwargs)

    def _model(self) -> type:
        return getattr(importlib.import_module(self._module, __package__), self.__name__)


def register_families() -> None:
    """Makes the families known to each of transformers' Auto classes, now or as soon as it is imported."""
    after_import("transformers.models.auto.configuration_auto", _register_configurations)
    after_import("transformers.models.auto.feature_extraction_auto", _register_feature_extractor)
    after_import("transformers.models.auto.modeling_auto", _register_models)


def _register_configurations() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    for config_class in _configurations().values():
        AutoConfig.register(config_class.model_type, config_class)


def _register_feature_extractor() -> None:
    from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor

    from .modeling.feature_extraction_primal_dual import PrimalDualTimeSeriesFeatureExtractor

    AutoFeatureExtractor.register(_configurations()["time_series"], PrimalDualTimeSeriesFeatureExtractor)


def _register_models() -> None:
    from transformers.models.auto import modeling_auto

    for family, config_class in _configurations().items():
        _, encoder, auto_class, classifiers = _FAMILIES[family]
        modeling_auto.AutoModel.register(config_class, _LazyModel(family, encoder, config_class))
        heads = tuple(_LazyModel(family, name, config_class) for name in classifiers)
        # Of several a checkpoint names its own.
        getattr(modeling_auto, auto_class).register(config_class, heads if len(heads) > 1 else heads[0])


def _configurations() -> dict[str, type]:
    from .modeling import configuration_primal_dual_models as configurations

    return {family: getattr(configurations, row[0]) for family, row in _FAMILIES.items()}


__all__ = ["register_families"]
