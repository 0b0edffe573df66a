"""A checkpoint where this package is not installed: `trust_remote_code=True` is all it takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hf_primaldual.modeling
from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor
from tests.modeling.isolated import run_isolated
from tests.modeling.series import CHANNELS, series_batch, small_model

# A checkpoint of series carries no code of the other families.
OTHER_FAMILIES = {
    "embeddings_primal_dual_text.py",
    "modeling_primal_dual_text.py",
    "modeling_primal_dual_vit.py",
}
CODE = {path.name for path in Path(hf_primaldual.modeling.__file__).parent.glob("*_primal_dual*.py")} - OTHER_FAMILIES
CLASSES = ["sits", "stands", "walks", "runs"]

LOAD = """
import pathlib
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification, pipeline

folder, tensors, again = sys.argv[1:4]
expected = load_file(tensors)
inputs = {name: expected[name] for name in ("past_values", "attention_mask")}

def is_remote(value):
    return type(value).__module__.startswith("transformers_modules.")

classes = (AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification)
for auto in classes:
    try:
        auto.from_pretrained(folder, trust_remote_code=False)
    except ValueError as error:
        assert "trust_remote_code=True" in str(error), error
    else:
        raise AssertionError(f"{auto.__name__} ran code that was not trusted")

config, extractor, encoder, model = (auto.from_pretrained(folder, trust_remote_code=True) for auto in classes)
assert all(map(is_remote, (config, extractor, encoder, model)))
with torch.no_grad():
    assert torch.equal(model(**inputs).logits, expected["logits"])
    assert torch.equal(encoder(**inputs).last_hidden_state, expected["last_hidden_state"])
    model.set_attn_implementation("eager")
    assert torch.allclose(model(**inputs).logits, expected["logits"], atol=1e-4)
series = [expected[f"series{i}"].numpy() for i in range(2)]
features = extractor(series, return_tensors="pt")
assert torch.equal(features["past_values"], expected["features"])
"""

PIPELINE = """
named = pipeline("time-series-classification", model=folder, trust_remote_code=True)
inferred = pipeline(model=folder, trust_remote_code=True)
assert is_remote(named) and is_remote(inferred)
with torch.no_grad():
    scores = model(**features).logits.softmax(-1)
one_by_one = [named(values) for values in series]
for answer, row in zip(one_by_one, scores):
    assert [entry["label"] for entry in answer] == [config.id2label[i] for i in row.argsort(descending=True).tolist()]
    assert np.allclose([entry["score"] for entry in answer], row.sort(descending=True).values, atol=1e-5)
assert {entry["label"] for entry in one_by_one[0]} == {"sits", "stands", "walks", "runs"}
assert inferred(series[0]) == one_by_one[0]
assert named(series[0], top_k=2) == one_by_one[0][:2]
assert named(series) == one_by_one
for together, alone in zip(named(series, batch_size=2), one_by_one):
    assert [entry["label"] for entry in together] == [entry["label"] for entry in alone]
    assert np.allclose([e["score"] for e in together], [e["score"] for e in alone], atol=1e-5)
try:
    named(series[0], top_k=0)
except ValueError as error:
    assert "`top_k` must be at least 1, got 0" in str(error)
else:
    raise AssertionError("top_k=0 was taken")
"""

SAVE = """
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(again)
extractor.save_pretrained(again)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A saved classifier with its feature extractor, and a file of inputs with what it made of them in memory."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model = small_model(id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)})
    series = [torch.randn(length, CHANNELS).numpy() for length in (19, 8)]
    extractor = PrimalDualTimeSeriesFeatureExtractor(CHANNELS).fit(series)
    model.save_pretrained(folder / "model")
    extractor.save_pretrained(folder / "model")
    inputs = series_batch()
    del inputs["labels"]
    with torch.no_grad():
        results = {
            "logits": model(**inputs).logits,
            "last_hidden_state": model.model(**inputs).last_hidden_state.contiguous(),
        }
    features = extractor(series, return_tensors="pt")["past_values"]
    tensors = {f"series{i}": torch.from_numpy(np.ascontiguousarray(values)) for i, values in enumerate(series)}
    save_file({**inputs, **results, **tensors, "features": features}, folder / "tensors")
    return folder


# Presets of every room, with fields of the kind that travels in `config.json` only.
OTHERS = {
    "linear-bn+sh": {"attention": "linear-bn+sh", "head_scales": [4, 1, 2, 1], "feature_map": "sigmoid"},
    "sparse-bn+sh": {"attention": "sparse-bn+sh", "sparse_window": 8, "sparse_stride": 4, "sampling": "conv"},
    "conv2d+bn": {"attention": "conv2d+bn", "bn_beta_learnable": True},
    "free": {"attention": "linear", "transforms": ["conv1d", "bn"], "training_set": "downsampled", "head_points": 5},
}

LOAD_EACH = """
import pathlib
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

root = pathlib.Path(sys.argv[1])
for tensors in sorted(root.glob("*/tensors")):
    expected = load_file(tensors)
    model = AutoModelForSequenceClassification.from_pretrained(tensors.parent / "model", trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    inputs = {name: expected[name] for name in ("past_values", "attention_mask")}
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected["logits"]), tensors
    print(tensors.parent.name)
"""


@pytest.mark.slow
def test_checkpoints_of_other_presets_load_without_the_package(tmp_path):
    inputs = series_batch()
    del inputs["labels"]
    for name, fields in OTHERS.items():
        model = small_model(**fields)
        model.save_pretrained(tmp_path / "saved" / name / "model")
        with torch.no_grad():
            save_file({**inputs, "logits": model(**inputs).logits}, tmp_path / "saved" / name / "tensors")
    assert run_isolated(LOAD_EACH, tmp_path, tmp_path / "saved").split() == sorted(OTHERS)


def test_a_checkpoint_holds_all_the_code_that_it_runs(checkpoint):
    names = {path.name for path in (checkpoint / "model").iterdir()}
    assert names >= {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert {name for name in names if name.endswith(".py")} == CODE


def test_a_checkpoint_loads_predicts_and_is_saved_again_without_the_package(checkpoint, tmp_path):
    again = checkpoint / "again"
    run_isolated(LOAD + PIPELINE + SAVE, tmp_path, checkpoint / "model", checkpoint / "tensors", again)
    assert {path.name for path in again.iterdir()} == {path.name for path in (checkpoint / "model").iterdir()}
    for name in CODE:
        assert (again / name).read_text() == (checkpoint / "model" / name).read_text(), name

    (tmp_path / "elsewhere").mkdir()
    run_isolated(LOAD + PIPELINE, tmp_path / "elsewhere", again, checkpoint / "tensors", "unused")
