"""Checkpoints where this package is not installed: `trust_remote_code=True` is all it takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import ByT5Tokenizer, ViTImageProcessorPil, pipeline

import hf_primaldual.modeling
from hf_primaldual import PrimalDualTextForCausalLM, PrimalDualTimeSeriesFeatureExtractor
from tests.modeling import images, series, texts
from tests.modeling.cases import PRESET_CASES
from tests.modeling.isolated import run_isolated

pytestmark = [pytest.mark.unmutated, pytest.mark.processes]

# A checkpoint of series carries no code of the other families.
OTHER_FAMILIES = {
    "embeddings_primal_dual_text.py",
    "masks_primal_dual.py",
    "modeling_primal_dual_language.py",
    "modeling_primal_dual_text.py",
    "modeling_primal_dual_vit.py",
}
CODE = {path.name for path in Path(hf_primaldual.modeling.__file__).parent.glob("*_primal_dual*.py")}
CLASSES = ["sits", "stands", "walks", "runs"]
TEXTS = ["The README is prose.", "x = {'a': 1}", "é ≠ e, 日本"]
BYTES = {"vocab_size": len(ByT5Tokenizer()), "max_position_embeddings": 256, "num_labels": 2}

SERIES = """
import sys
import pathlib
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer, pipeline

root, again = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
torch.set_grad_enabled(False)

def is_remote(value):
    return type(value).__module__.startswith("transformers_modules.")

folder, expected = root / "series", load_file(root / "series.safetensors")
inputs = {name: expected[name] for name in ("past_values", "attention_mask")}
classes = (AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification)
for auto in classes:
    try:
        auto.from_pretrained(folder, trust_remote_code=False)
    except ValueError as error:
        assert "trust_remote_code=True" in str(error), error
    else:
        raise AssertionError(f"{auto.__name__} ran code that was not trusted")

for place in (folder, again / "series"):
    # The second time what the first one saved.
    config, extractor, encoder, model = (auto.from_pretrained(place, trust_remote_code=True) for auto in classes)
    assert all(map(is_remote, (config, extractor, encoder, model)))
    assert torch.equal(model(**inputs).logits, expected["logits"])
    assert torch.equal(encoder(**inputs).last_hidden_state, expected["last_hidden_state"])
    series = [expected[f"series{i}"].numpy() for i in range(2)]
    features = extractor(series, return_tensors="pt")
    assert torch.equal(features["past_values"], expected["features"])
    model.save_pretrained(again / "series")
    extractor.save_pretrained(again / "series")

classify = pipeline(model=str(folder), trust_remote_code=True)
scores = model(**features).logits.softmax(-1)
for answer, row in zip(classify(series, batch_size=2), scores):
    assert [entry["label"] for entry in answer] == [config.id2label[i] for i in row.argsort(descending=True).tolist()]
    assert np.allclose([e["score"] for e in answer], row.sort(descending=True).values, atol=1e-5)
"""

OTHERS = """
for name in ("classifier", "matcher"):
    inputs = load_file(root / f"{name}.safetensors")
    expected = inputs.pop("logits")
    model = AutoModelForSequenceClassification.from_pretrained(root / name, trust_remote_code=True)
    assert is_remote(model)
    assert torch.equal(model(**inputs).logits, expected)
    print(type(model).__name__, type(AutoModel.from_pretrained(root / name, trust_remote_code=True)).__name__)
    # A configuration alone, of the code that came with the checkpoint.
    config = AutoConfig.from_pretrained(root / name, trust_remote_code=True)
    again = AutoModelForSequenceClassification.from_config(config, trust_remote_code=True)
    assert type(again).__name__ == type(model).__name__
classify = pipeline("text-classification", model=str(root / "classifier"), trust_remote_code=True)
for answer in classify(eval(sys.argv[3]), batch_size=2):
    print(answer["label"], round(answer["score"], 4))

written = load_file(root / "decoder.safetensors")["written"]
model = AutoModelForCausalLM.from_pretrained(root / "decoder", trust_remote_code=True)
assert is_remote(model)
assert torch.equal(model.generate(written[:, :9], max_new_tokens=9, do_sample=False), written)

expected = load_file(root / "images.safetensors")
pixel_values = expected.pop("pixel_values")
for preset, logits in expected.items():
    model = AutoModelForImageClassification.from_pretrained(root / preset, trust_remote_code=True)
    assert is_remote(model)
    assert torch.equal(model(pixel_values).logits, logits), preset
classify = pipeline("image-classification", model=str(root / "bn+sh"), trust_remote_code=True, device="cpu")
assert len(classify(Image.new("RGB", (20, 30)))) == 4
"""


def save_series(folder):
    model = series.small_model(id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)})
    values = [torch.randn(length, series.CHANNELS).numpy() for length in (19, 8)]
    extractor = PrimalDualTimeSeriesFeatureExtractor(series.CHANNELS).fit(values)
    for part in (model, extractor):
        part.save_pretrained(folder / "series")
    inputs = series.series_batch()
    del inputs["labels"]
    results = {
        "logits": model(**inputs).logits,
        "last_hidden_state": model.model(**inputs).last_hidden_state.contiguous(),
        "features": extractor(values, return_tensors="pt")["past_values"],
    }
    tensors = {f"series{i}": torch.from_numpy(np.ascontiguousarray(each)) for i, each in enumerate(values)}
    save_file({**inputs, **results, **tensors}, folder / "series.safetensors")


def save_texts(folder):
    tokenizer = ByT5Tokenizer()
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    pair = {f"pair_{name}": values.flip(0) for name, values in inputs.items()}
    names = {"id2label": {0: "prose", 1: "code"}, "label2id": {"prose": 0, "code": 1}}
    for name, model, batch in (
        ("classifier", texts.small_model(prepend_cls=True, pooling="cls", **BYTES, **names), inputs),
        ("matcher", texts.small_matcher(**BYTES), inputs | pair),
    ):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        save_file({**batch, "logits": model(**batch).logits}, folder / f"{name}.safetensors")
    decoder = texts.small_model(model_class=PrimalDualTextForCausalLM, is_decoder=True, **BYTES)
    decoder.save_pretrained(folder / "decoder")
    written = decoder.generate(inputs["input_ids"][:1, :9], max_new_tokens=9, do_sample=False)
    save_file({"written": written}, folder / "decoder.safetensors")


def save_images(folder):
    pixel_values, logits = images.image_batch()["pixel_values"], {}
    for preset in PRESET_CASES:
        model = images.small_model(attention=preset)
        model.save_pretrained(folder / preset)
        logits[preset] = model(pixel_values).logits
    ViTImageProcessorPil(size={"height": images.SIZE, "width": images.SIZE}).save_pretrained(folder / "bn+sh")
    auto_map = json.loads((folder / "bn+sh" / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModelForImageClassification"].endswith("PrimalDualViTForImageClassification")
    save_file({"pixel_values": pixel_values, **logits}, folder / "images.safetensors")


@torch.no_grad()
def test_checkpoints_load_predict_and_are_saved_again_without_the_package(tmp_path):
    # Each in a folder with what prepares its inputs, and files of what they made of inputs.
    root = tmp_path / "checkpoints"
    root.mkdir()
    for save in (save_series, save_texts, save_images):
        save(root)
    classify = pipeline("text-classification", model=str(root / "classifier"))
    answers = [f"{answer['label']} {round(answer['score'], 4)}" for answer in classify(TEXTS, batch_size=2)]
    assert {answer.split()[0] for answer in answers} <= {"prose", "code"}
    again = tmp_path / "again"
    printed = run_isolated(SERIES + OTHERS, tmp_path, root, again, repr(TEXTS)).splitlines()
    assert printed == [
        "PrimalDualTextForSequenceClassification PrimalDualTextModel",
        "PrimalDualTextForDocumentMatching PrimalDualTextModel",
        *answers,
    ]
    # A checkpoint holds all the code that it runs, none of the other families, and so does one that is saved again.
    names = {path.name for path in (root / "series").iterdir()}
    assert {name for name in names if name.endswith(".py")} == CODE - OTHER_FAMILIES
    assert {path.name for path in (again / "series").iterdir()} == names
    for name in CODE - OTHER_FAMILIES:
        assert (again / "series" / name).read_text() == (root / "series" / name).read_text(), name
