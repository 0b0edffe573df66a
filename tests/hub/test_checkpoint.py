"""Checkpoint folders: what their cards tell to type, failures while one is written, and those of other versions."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

import hf_primaldual
from hf_primaldual.hub.checkpoint import save_checkpoint
from hf_primaldual.hub.checks import RECORD
from hf_primaldual.hub.results import TASKS
from hf_primaldual.modeling.versions_primal_dual import VERSION
from tests.hub.checkpoints import LONGEST, checkpoint, contents
from tests.hub.tables import table, without

TEXT = "A text that is longer than the model takes, which is 64 bytes, a few less than these."
SAVED = sorted((Path(__file__).parent / "fixtures").glob("saved-by-*"))


@pytest.mark.parametrize("task", TASKS)
def test_the_python_of_the_card_runs_in_the_folder_of_its_checkpoint(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = table(task)
    if "length" in results["dataset"]:
        results["settings"]["max_position_embeddings"] = 29 if "series" in task else LONGEST
    (tmp_path / "learning_curves.png").write_bytes(b"a picture")
    folder = save_checkpoint(results["model_name"], *checkpoint(task), results, plots=["learning_curves.png"])
    image = Image.fromarray(np.arange(28 * 35 * 3, dtype=np.uint8).reshape(28, 35, 3))
    names = {"series": np.random.default_rng(0).normal(size=(20, 12)), "text": TEXT, "image": image}
    names |= {"document": TEXT, "another": "A short one."}
    if task == "text-generation":
        names["text"] = TEXT[: LONGEST - 20]
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
        if task == "document-matching":
            torch.testing.assert_close(names.pop("probabilities").sum(), torch.tensor(1.0))


def test_a_failure_leaves_what_was_there(tmp_path):
    folder, parts, results = tmp_path / "model", checkpoint("text-classification"), table("text-classification")
    folder.mkdir()
    (folder / "model.safetensors").write_text("old weights")
    for wrong, plots, error, message in (
        ({"attention": "bn"}, [], ValueError, "'schema' is missing"),
        (results, [], FileNotFoundError, "lacks learning_curves"),
        (without(results, ("plots",)), [tmp_path / "nowhere.png"], FileNotFoundError, "nowhere"),
    ):
        with pytest.raises(error, match=message):
            save_checkpoint(folder, *parts, wrong, plots)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert contents(folder) == {"model.safetensors": b"old weights"}


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_a_checkpoint_of_an_older_version_gives_the_logits_that_it_gave_then(folder):
    assert hf_primaldual.__version__ == VERSION
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
        ({"gate": True}, "holds gate"),
        ({}, None),
    ],
    ids=str,
)
def test_a_checkpoint_of_a_newer_version_says_what_it_needs(fields, known, tmp_path):
    folder = Path(shutil.copytree(SAVED[-1], tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    for version in (VERSION, "10.2.0"):
        (folder / "config.json").write_text(json.dumps({**config, **fields, "hf_primaldual_version": version}))
        # What is of this version may have fields of one's own.
        if known is None or (version == VERSION and "gate" in fields):
            AutoModelForSequenceClassification.from_pretrained(folder)
        else:
            with pytest.raises(Exception, match=known) as caught:
                AutoModelForSequenceClassification.from_pretrained(folder)
            assert ("install `hf_primaldual>=10.2.0`" in str(caught.value)) == (version != VERSION)
