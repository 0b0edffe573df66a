"""The code that a card shows loads its checkpoint, for each kind of task."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ByT5Tokenizer, ViTImageProcessor

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
)
from hf_primaldual.hub.checkpoint import save_checkpoint
from tests.hub.tables import TASKS, table

LONGEST = 64
TEXT = "A text that is longer than the model takes, which is 64 bytes, a few less than these."


def checkpoint(task):
    """An untrained model of the task, and what turns an example into its inputs."""
    if task == "time-series-classification":
        config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, max_position_embeddings=29)
        extractor = PrimalDualTimeSeriesFeatureExtractor(feature_size=12)
        return PrimalDualTimeSeriesForSequenceClassification(config), extractor
    if task == "image-classification":
        config = PrimalDualViTConfig(image_size=[28, 35], patch_size=7, num_labels=9, num_hidden_layers=1)
        return PrimalDualViTForImageClassification(config), ViTImageProcessor(size={"height": 28, "width": 35})
    config = PrimalDualTextConfig(max_position_embeddings=LONGEST, num_labels=9)
    matching = task == "document-matching"
    model = PrimalDualTextForDocumentMatching if matching else PrimalDualTextForSequenceClassification
    return model(config), ByT5Tokenizer()


@pytest.mark.parametrize("task", TASKS)
def test_the_python_of_the_card_runs_beside_its_checkpoint(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = table(task)
    if "length" in results["dataset"]:
        results["settings"]["max_position_embeddings"] = 29 if "series" in task else LONGEST
    (tmp_path / "learning_curves.png").write_bytes(b"a picture")
    folder = save_checkpoint(results["model_name"], *checkpoint(task), results, plots=["learning_curves.png"])
    assert (folder / "learning_curves.png").read_bytes() == b"a picture"
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        # Two documents take one line more.
        assert len([line for line in snippet.splitlines() if line]) <= (5 if task != "document-matching" else 7)
    image = Image.fromarray(np.arange(28 * 35 * 3, dtype=np.uint8).reshape(28, 35, 3))
    given = {"series": np.random.default_rng(0).normal(size=(20, 12)), "text": TEXT, "image": image}
    names = {**given, "document": TEXT, "another": "A short one."}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
        if "probabilities" in names:
            torch.testing.assert_close(names.pop("probabilities").sum(), torch.tensor(1.0))


def test_a_plot_that_is_not_there_leaves_no_folder(tmp_path):
    task = "text-classification"
    with pytest.raises(FileNotFoundError, match="learning_curves"):
        save_checkpoint(tmp_path / "model", *checkpoint(task), table(task))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_checkpoint(tmp_path / "model", *checkpoint(task), table(task), plots=[tmp_path / "nowhere.png"])
    assert list(tmp_path.iterdir()) == []
