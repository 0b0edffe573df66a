"""The card and the checkpoint folder of an encoder without a head."""

import re

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.checkpoint import save_checkpoint
from hf_primaldual.hub.checks import RECORD, check
from hf_primaldual.hub.encoder_results import ENCODER_TASKS
from hf_primaldual.hub.publish import publish
from hf_primaldual.hub.results import save_results, validate_results
from tests.hub.encoders import measured
from tests.hub.tables import changed, leaves, without

TEXT = "A text that is longer than the model takes, which is 64 bytes, a few less than these."
every_task = pytest.mark.parametrize("task", ENCODER_TASKS)


@pytest.fixture(scope="module")
def results():
    return measured("feature-extraction")[-1]


@every_task
@pytest.mark.parametrize("embedding", ["mean", "first"])
def test_the_python_of_the_card_compares_two_inputs(task, embedding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, processor, results = measured(task)
    folder = save_checkpoint("small-sh", model, processor, {**results, "embedding": embedding})
    assert load_file(folder / RECORD)["last_hidden_state"].shape[0] == 2
    images = np.random.default_rng(0).integers(256, size=(2, 28, 28, 3), dtype=np.uint8)
    names = {"text": TEXT, "image": Image.fromarray(images[0])}
    card = (folder / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        for another, same in ((names["text"], True), ("Short.", False)):
            names |= {"another": another if task == "feature-extraction" else Image.fromarray(images[int(not same)])}
            exec(compile(snippet, "README.md", "exec"), names)
            assert (names["similarity"] > 1 - 1e-5) == same
        if embedding == "mean" and task == "feature-extraction":
            # Padding is left out of the mean.
            inputs = processor(["Short."], return_tensors="pt")
            with torch.no_grad():
                alone = model(**inputs).last_hidden_state.mean(dim=1)
            torch.testing.assert_close(names["embeddings"][1:], alone, atol=1e-5, rtol=1e-5)
    data = ModelCard(card).data
    assert data.pipeline_tag == task
    assert data.tags == ["primal-dual-attention", "attention-sh"]
    assert {result.metric_type for result in data.eval_results} >= {"accuracy", "cosine_similarity", "latency"}


@pytest.mark.processes
@every_task
def test_the_folder_is_fit_to_be_published_and_its_card_shows_the_models_factors(task, tmp_path):
    model, processor, results = measured(task)
    folder = save_checkpoint(tmp_path / "small-sh", model, processor, results)
    sent = publish(folder, "me/small-sh", dry_run=True)
    assert {"README.md", "results.json", "config.json", RECORD} < dict(sent.files).keys()
    save_checkpoint(folder, model, processor, changed(results, ("head_scales", 0), [2, 1]))
    with pytest.raises(ValueError, match=r"'head_scales' is \[\[2, 1\], \[4, 1\]\], but the model has \[\[1, 2\]"):
        check(folder)


def test_any_value_that_changes_changes_the_card(results):
    card = render_card(results)
    places = [(path, value) for path, value in leaves(results) if path[0] not in ("schema", "task", "embedding")]
    assert len(places) > 50
    for path, value in places:
        if value is None or path == ("attention",):
            continue
        if path[0] in ("head_scales", "cost"):
            continue
        other = f"x{value}" if isinstance(value, str) else value / 2 if isinstance(value, float) else value * 2
        assert render_card(changed(results, path, other)) != card, path
    assert "0.69 of the original's products" in card
    assert "| 1 | 1 | 2 |\n| 2 | 4 | 1 |" in card
    for key in ("calibration", "distillation"):
        assert "\n\n\n" not in render_card(without(results, (key,)))
    assert "nothing was trained" in render_card(without(results, ("distillation",)))
    assert "Not measured." in render_card({**results, "efficiency": []})


def test_the_card_says_where_the_conversion_does_not_pay(results):
    probe = ("evaluations", 0, "probes", 0)
    for lost, said in (
        (0.01, "1.00 points below the original on the test set."),
        (0.02, "2.00 points below the original on the test set: it loses more than a point there.**"),
        (0.0, "level with the original"),
        (-0.02, "2.00 points above the original"),
    ):
        one = changed(results, (*probe, "original", "test"), 0.7)
        assert said in render_card(changed(one, (*probe, "converted", "test"), 0.7 - lost))
    times = {"median": 1.0, "q1": 0.9, "q3": 1.1}
    for median, said in (
        (0.5, "it is faster (0.50 times the time)."),
        (1.05, "quartiles overlap): the conversion does not pay there.**"),
        (2.0, "it is slower (2.00 times the time): the conversion does not pay there.**"),
    ):
        one = changed(results, ("efficiency", 0, "original", "inference_ms"), times)
        other = {name: median * time for name, time in times.items()}
        assert said in render_card(changed(one, ("efficiency", 0, "converted", "inference_ms"), other))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("head_scales",), [[1, 2], [1]], r"as many factors for each layer, not \[\[1, 2\], \[1\]\]"),
        (("cost",), 0.57, r"'cost' is 0.57, but 'head_scales' leave 0\.688"),
        (("settings",), {}, "'settings.max_position_embeddings', .* is missing"),
        (("dataset", "classes"), None, "'dataset.classes' is None"),
        (("calibration", "settings"), {"a": {"b": 1}}, "settings are flat"),
        (("original",), {"name": "small"}, "'original.source' is missing"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(results, path, value, message, tmp_path):
    validate_results(results)
    with pytest.raises(ValueError, match=message):
        save_results(changed(results, path, value), tmp_path / "results.json")
