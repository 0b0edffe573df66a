"""Checkpoints of other versions of the package than the one that loads them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

import hf_primaldual
from hf_primaldual.hub.checks import RECORD
from hf_primaldual.modeling.configuration_primal_dual import VERSION

SAVED = sorted((Path(__file__).parent / "fixtures").glob("saved-by-*"))


def test_the_version_that_travels_with_checkpoints_is_that_of_the_package():
    assert hf_primaldual.__version__ == VERSION


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_a_checkpoint_of_an_older_version_gives_the_logits_that_it_gave_then(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(folder)
    assert type(model).__module__.startswith("hf_primaldual.")
    assert model.config.hf_primaldual_version == folder.name.removeprefix("saved-by-")
    tensors = load_file(folder / RECORD)
    logits = tensors.pop("logits")
    with torch.no_grad():
        given = model(**{name.removeprefix("input."): tensor for name, tensor in tensors.items()}).logits
    torch.testing.assert_close(given, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"attention": "wavelet+sh"}, "softmax, bn"),
        ({"transforms": ["wavelet"]}, "bn, conv1d"),
        ({"pooling": "last"}, "flatten"),
    ],
    ids=str,
)
def test_a_checkpoint_of_a_newer_version_says_what_it_needs(fields, known, tmp_path):
    folder = Path(shutil.copytree(SAVED[-1], tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    for version, is_newer in ((VERSION, False), ("10.2.0", True)):
        (folder / "config.json").write_text(json.dumps({**config, **fields, "hf_primaldual_version": version}))
        with pytest.raises(Exception, match=known) as caught:
            AutoModelForSequenceClassification.from_pretrained(folder)
        assert ("install `hf_primaldual>=10.2.0`" in str(caught.value)) == is_newer


def test_a_field_that_only_a_newer_version_knows_is_not_ignored(tmp_path):
    folder = Path(shutil.copytree(SAVED[-1], tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "gate": True, "hf_primaldual_version": "10.2.0"}))
    with pytest.raises(ValueError, match=r"holds gate, .* install `hf_primaldual>=10.2.0`"):
        AutoModelForSequenceClassification.from_pretrained(folder)
    # What the newer version wrote and this one knows, and fields of one's own in a checkpoint of this version.
    for fields in ({"hf_primaldual_version": "10.2.0"}, {"gate": True}):
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        AutoModelForSequenceClassification.from_pretrained(folder)
