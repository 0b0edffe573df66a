"""
transformers' own common tests, which each of its models runs, on the models of this package: `make test-transformers`.

It fetches them out of the source archive of the transformers in constraints.txt. That holds `tests/test_*.py` alone:
what these import of other folders is replaced below, and tests of pipelines and of `generate` are not among them.
"""

import sys
import unittest
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import numpy as np
from transformers.models.auto import modeling_auto

from hf_primaldual import (
    PrimalDualTextForCausalLM,
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTextModel,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualTimeSeriesModel,
    PrimalDualViTForImageClassification,
    PrimalDualViTModel,
)
from hf_primaldual.modeling.modeling_primal_dual import PrimalDualPreTrainedModel
from tests.modeling import images, series, texts
from tests.modeling.cases import EACH_CHOICE, PRESET_CASES, uses


def stand_in(name: str, **contents) -> None:
    """A module of transformers' tests that its archive lacks."""
    module = sys.modules[f"transformers_tests.{name}"] = ModuleType(name)
    vars(module).update(contents)


stand_in("exporters.test_export", ExportTesterMixin=object)
stand_in("generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
stand_in(
    "utils.test_configuration_utils",
    config_common_kwargs={
        "return_dict": False,
        "output_hidden_states": True,
        "output_attentions": True,
        "dtype": "float16",
        "id2label": {0: "label"},
        "label2id": {"label": "0"},
        "problem_type": "regression",
    },
)

from transformers_tests import test_modeling_common  # noqa: E402
from transformers_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_tests.test_sequence_feature_extraction_common import (  # noqa: E402
    SequenceFeatureExtractionTestMixin,
)

# Theirs sets `rms_norm_eps` and five others too, which a configuration of this package refuses as misspelt.
test_modeling_common.set_config_for_less_flaky_test = lambda config: setattr(config, "norm_eps", 1.0)


class Kind(NamedTuple):
    """Classes that take one configuration and one batch, the classifiers behind the encoder."""

    classes: tuple[type, ...]
    make_config: callable
    make_batch: callable
    tokens: int
    presets: tuple[str, ...] = ("softmax", *EACH_CHOICE)
    fields: dict = {}
    # What `ModelTesterMixin` asks of a test class.
    attributes: dict = {}


def document_batch() -> dict:
    """Pairs of documents; a test takes the vocabulary down to 25 tokens, of `input_ids` alone."""
    batch = texts.document_batch()
    return {**batch, "pair_input_ids": batch["pair_input_ids"] % 25}


TEXT = (PrimalDualTextModel, PrimalDualTextForSequenceClassification)
BERT = {"norm_position": "post", "embedding_norm": True, "type_vocab_size": 2, "pooling": "cls", "prepend_cls": True}
NO_VOCABULARY = {"test_resize_embeddings": False}
KINDS = {
    "text": Kind(TEXT, texts.small_config, texts.text_batch, 20, presets=tuple(PRESET_CASES)),
    "bert": Kind(TEXT, texts.small_config, texts.text_batch, 21, fields=BERT),
    "language": Kind(
        (PrimalDualTextForCausalLM,),
        texts.small_config,
        texts.text_batch,
        20,
        presets=("softmax", "bn", "sh", "bn+sh", "linear-bn+sh"),
        fields={"is_decoder": True},
    ),
    "matching": Kind(
        (PrimalDualTextForDocumentMatching,),
        texts.small_config,
        document_batch,
        20,
        attributes={"additional_model_inputs": ["pair_input_ids"]},
    ),
    "series": Kind(
        (PrimalDualTimeSeriesModel, PrimalDualTimeSeriesForSequenceClassification),
        series.small_config,
        series.series_batch,
        20,
        attributes=NO_VOCABULARY,
    ),
    "vit": Kind(
        (PrimalDualViTModel, PrimalDualViTForImageClassification),
        images.small_config,
        images.image_batch,
        26,
        attributes=NO_VOCABULARY,
    ),
}

# The tests look here for what has labels, and what has none.
modeling_auto.MODEL_MAPPING_NAMES |= {kind: KINDS[kind].classes[0].__name__ for kind in ("text", "series", "vit")}
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES |= {
    kind: KINDS[kind].classes[-1].__name__ for kind in ("text", "matching", "series")
}
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["language of ours"] = KINDS["language"].classes[0].__name__
modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES["vit of ours"] = KINDS["vit"].classes[-1].__name__

# By the test: the kinds that cannot pass it, and why.
CANNOT = {
    "test_model_get_set_embeddings": (("series", "vit"), "what embeds their inputs is a projection, no `Embedding`"),
    "test_load_with_mismatched_shapes": (("series",), "it makes the vocabulary smaller, and there is none"),
    "test_generation_tester_mixin_inheritance": (("language",), "the tests of `generate` are not in the archive"),
    "test_batching_equivalence": (("matching",), "hidden states have two rows for each pair of documents"),
}
CANNOT |= dict.fromkeys(
    ("test_truncation_from_list", "test_truncation_from_array"),
    (
        ("extractor",),
        "without `truncation`, series longer than `max_length` are all padded to the longest, not ragged",
    ),
)
# Of presets whose heads see different numbers of keys.
CANNOT_WITH_MAPS_PER_HEAD = {
    "test_attention_outputs": "it asks for one tensor of maps a layer, here a tuple with one a head",
    "test_retain_grad_hidden_states_attentions": "as above; tests/modeling/test_maps.py asks for each head's gradient",
}
CAUSAL_LINEAR_HAS_NO_MAPS = ("test_model_outputs_equivalence", "test_capture_outputs_decorator")
# They load a model from nothing, which `from_pretrained` of this package refuses, and then look at what it holds.
FROM_NOTHING = ("test_can_init_all_missing_weights", "test_model_weights_reload_no_missing_tied_weights")


class ModelTester:
    """What the tests know of a kind with a preset."""

    is_training = True

    def __init__(self, kind: Kind, preset: str):
        self.kind, self.preset = kind, preset
        config, batch = self.prepare_config_and_inputs_for_common()
        self.batch_size, self.seq_length = len(next(iter(batch.values()))), kind.tokens
        self.num_hidden_layers, self.num_attention_heads = config.num_hidden_layers, config.num_attention_heads
        self.hidden_size = config.hidden_size

    def get_config(self):
        return self.kind.make_config(attention=self.preset, **self.kind.fields)

    def prepare_config_and_inputs_for_common(self):
        batch = self.kind.make_batch()
        del batch["labels"]
        return self.get_config(), batch


def skip_what_cannot_pass(test: unittest.TestCase) -> None:
    kinds, reason = CANNOT.get(test._testMethodName, ((), None))
    if test.kind in kinds:
        test.skipTest(reason)


class CommonTests(test_modeling_common.ModelTesterMixin):
    kind, preset = None, None
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        skip_what_cannot_pass(self)
        test = self._testMethodName
        if test in CANNOT_WITH_MAPS_PER_HEAD and uses("downsampled", self.preset):
            self.skipTest(CANNOT_WITH_MAPS_PER_HEAD[test])
        if test in CAUSAL_LINEAR_HAS_NO_MAPS and self.kind == "language" and uses("linear", self.preset):
            self.skipTest("causal linear attention has no maps, which it asks for")
        if test in FROM_NOTHING:
            self.enterContext(
                mock.patch.object(PrimalDualPreTrainedModel, "_must_be_in_a_checkpoint", return_value=False)
            )
        self.model_tester = ModelTester(KINDS[self.kind], self.preset)

    def test_config(self):
        config = self.model_tester.get_config()
        tester = ConfigTester(self, type(config), has_text_modality=hasattr(config, "vocab_size"), hidden_size=96)
        tester.run_common_tests()


for _kind, _of_kind in KINDS.items():
    for _preset in _of_kind.presets:
        _name = f"Test_{_kind}_{_preset}"
        _attributes = {"kind": _kind, "preset": _preset, "all_model_classes": _of_kind.classes, **_of_kind.attributes}
        globals()[_name] = type(_name, (CommonTests, unittest.TestCase), _attributes)


class ExtractorTester:
    """Series of 4, 7 and 10 steps."""

    batch_size, feature_size, min_seq_length, seq_length_diff, max_seq_length = 3, 3, 4, 3, 7

    def prepare_feat_extract_dict(self):
        return {"feature_size": 3, "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 0.5], "padding_value": -0.5}

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        values = [np.random.default_rng(steps).normal(size=(10 if equal_length else steps, 3)) for steps in (4, 7, 10)]
        return values if numpify else [each.tolist() for each in values]


class TestExtractor(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class, kind = PrimalDualTimeSeriesFeatureExtractor, "extractor"

    def setUp(self):
        skip_what_cannot_pass(self)
        self.feat_extract_tester = ExtractorTester()


del SequenceFeatureExtractionTestMixin
