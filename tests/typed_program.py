"""
What a user writes, for a type checker. `make quality` checks it against the source and `make test-dist` against the
installed wheel. Each line that ignores an error is a mistake that must be found: mypy tells an `ignore` without one.
"""

from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from transformers import BertConfig, BertModel, PreTrainedModel, Trainer

import hf_primaldual
from hf_primaldual import (
    DistillationTrainer,
    PrimalDualAttention,
    PrimalDualConfig,
    PrimalDualTextForCausalLM,
    PrimalDualTimeSeriesClassifier,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
    calibrate,
    convert,
)
from hf_primaldual.data import SeriesLayout, load_uea, series_dataset
from hf_primaldual.hub import checkpoint_from_trainer
from hf_primaldual.measure import count_flops, measure
from hf_primaldual.theory import PrimalDualRegression, PrimalLayer, derive_attention, dual_variables


def put_in(inputs: dict[str, torch.Tensor]) -> None:
    model = BertModel(BertConfig())
    assert_type(hf_primaldual.apply(model, "bn+sh", head_scales=[1, 1, 2, 2], bn_beta=0.5), BertModel)
    hf_primaldual.apply(model, "bn+sh", head_scale=[1, 1, 2, 2])  # type: ignore[call-arg]
    hf_primaldual.apply(model, "bn+sh", bn_beta="0.5")  # type: ignore[arg-type]
    hf_primaldual.aply(model)  # type: ignore[attr-defined]
    found = calibrate(model, [inputs], 0.5, sampling="stride")
    assert_type(found.cost, float)
    assert_type(found.head_scales, list[list[int]])
    found.costs  # type: ignore[attr-defined]
    calibrate(model, budget=0.5)  # type: ignore[call-arg]
    student: PreTrainedModel = convert(model, "bn", num_labels=2)
    convert(model, heads=2, attention=2)  # type: ignore[arg-type]
    DistillationTrainer(student, teacher=model).train()


def build(tokens: torch.Tensor) -> None:
    config = PrimalDualConfig(attention="bn+sh", hidden_size=128, num_attention_heads=8)
    PrimalDualConfig(hiden_size=128)  # type: ignore[call-arg]
    PrimalDualConfig(hidden_size="128")  # type: ignore[arg-type]
    PrimalDualAttention(config)(tokens)
    vit = PrimalDualViTForImageClassification(PrimalDualViTConfig(attention="bn", num_labels=10))
    PrimalDualViTForImageClassification(10)  # type: ignore[arg-type]
    vit.config.patch_size
    loaded = PrimalDualTextForCausalLM.from_pretrained("folder")
    assert_type(loaded, PrimalDualTextForCausalLM)
    loaded.generate(tokens, max_new_tokens=3)


def classify(series: list[np.ndarray], classes: list[str]) -> np.ndarray:
    classifier = PrimalDualTimeSeriesClassifier("bn+sh", random_state=0).fit(series, classes)
    PrimalDualTimeSeriesClassifier(epochs=3)  # type: ignore[call-arg]
    classifier.save_pretrained("mine")
    assert_type(PrimalDualTimeSeriesClassifier.from_pretrained("mine"), PrimalDualTimeSeriesClassifier)
    splits = series_dataset(series, labels=classes)
    splits["train"][0]
    load_uea("JapaneseVowels")["test"]
    SeriesLayout(id_column="id", time_colum="time")  # type: ignore[call-arg]
    extractor = PrimalDualTimeSeriesFeatureExtractor(feature_size=2).fit(series)
    model = PrimalDualTimeSeriesForSequenceClassification(PrimalDualTimeSeriesConfig(num_channels=2))
    model(**extractor(series, return_tensors="pt"))
    return classifier.predict(series)


def look(trainer: Trainer, model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Path:
    count_flops(model, input_ids=inputs["input_ids"]) * 2
    measure(model, tokens=128)["forward_flops"]
    measure(model, token="128", batch="8")  # type: ignore[arg-type]
    dual_variables(model, inputs)[0].support_vectors(tolerance=0.1)
    solution = PrimalDualRegression(C=1.0, epsilon=0.1).fit(np.eye(3), np.ones((3, 2)))
    assert_type(solution.residuals, torch.Tensor)
    PrimalDualRegression(c=1.0)  # type: ignore[call-arg]
    derive_attention(PrimalLayer(transforms=("bn",)), PrimalDualConfig())
    return checkpoint_from_trainer("mine", trainer, "my data", license="apache-2.0")
