"""The card rendered from a results file."""

import copy
import json
import re
from importlib.resources import files

import jinja2
import pytest
from huggingface_hub import ModelCard

from hf_primaldual.hub.card import render_card, write_card
from hf_primaldual.hub.results import save_results
from tests.hub.tables import OPTIONAL, TASKS, changed, comparison, leaves, table, without


def test_the_same_results_give_the_same_card(results):
    assert render_card(results) == render_card(copy.deepcopy(results))
    assert render_card(results).endswith("}\n```\n")


# Every number is rendered once more: one kind of task is enough for each day.
@pytest.mark.parametrize("task", [TASKS[0], *(pytest.param(task, marks=pytest.mark.slow) for task in TASKS[1:])])
def test_any_number_that_changes_changes_the_card(task):
    results = table(task)
    card = render_card(results)
    numbers = [
        (path, value)
        for path, value in leaves(results)
        if isinstance(value, int | float) and not isinstance(value, bool) and path != ("schema",)
    ]
    assert len(numbers) > 200
    for path, value in numbers:
        if path[-1] == "seed":
            # A seed is one of every attention.
            others = copy.deepcopy(results)
            for run in others["runs"]:
                run["seed"] = 2 * value if run["seed"] == value else run["seed"]
        else:
            another = value + 0.004 if "accuracy" in str(path[-1]) else value * 2
            others = changed(results, path, another)
        assert render_card(others) != card, path


@pytest.mark.parametrize("task", TASKS)
def test_any_text_that_changes_changes_the_card(task):
    results = table(task)
    card = render_card(results)
    names = {"task", "attention", "attentions", "baseline", "runs"}
    texts = [(path, value) for path, value in leaves(results) if isinstance(value, str) and path[0] not in names]
    assert len(texts) > 15
    for path, value in texts:
        # The metric starts with `validation`, a plot's name ends with its type.
        another = f"{value}x" if path[-1] == "metric" else f"x{value}"
        assert render_card(changed(results, path, another)) != card, path


def test_the_metadata_reads_back(results):
    card = ModelCard(render_card(results))
    data = card.data
    assert data.license == "apache-2.0"
    assert data.library_name == "transformers"
    assert data.tags == ["primal-dual-attention", "time-series-classification", "attention-bn-sh"]
    assert "pipeline_tag" not in data.to_dict()
    assert data.model_name == results["model_name"]
    assert data.datasets == ["some/data"]
    assert data.co2_eq_emissions == {"emissions": 12.3, "source": "a meter"}
    accuracies = [result.metric_value for result in data.eval_results if result.metric_type == "accuracy"]
    assert accuracies == [0.987, 0.9811]
    assert {result.dataset_name for result in data.eval_results} == {"SomeData"}
    assert str(card).rstrip("\n") == render_card(results).rstrip("\n")


def test_the_metadata_tells_what_the_attention_costs_at_every_length(results):
    told = {result.metric_name: result.metric_value for result in ModelCard(render_card(results)).data.eval_results}
    for point in results["efficiency"]:
        cost, at = point["bn+sh"], f"batch {point['batch']}, {point['tokens']} tokens (ours)"
        assert told[f"Parameters, {at}"] == cost["parameters"]
        assert told[f"Forward FLOPs, {at}"] == cost["forward_flops"]
        assert told[f"Peak memory of a training step in bytes, {at}"] == cost["peak_memory_bytes"]
        assert told[f"Median inference time in ms, {at}"] == cost["inference_ms"]["median"]
        assert told[f"Median training step time in ms, {at}"] == cost["train_step_ms"]["median"]


@pytest.mark.parametrize(
    ("task", "pipeline_tag"),
    [
        ("text-classification", "text-classification"),
        ("image-classification", "image-classification"),
        ("document-matching", None),
    ],
)
def test_a_task_that_the_hub_knows_is_a_pipeline_and_any_other_a_tag(task, pipeline_tag):
    data = ModelCard(render_card(table(task))).data
    assert data.pipeline_tag == pipeline_tag
    assert (task in data.tags) == (pipeline_tag is None)


def test_the_card_says_what_was_measured(results):
    text = render_card(results)
    assert "| `softmax` | 2 | 97.75 ± 0.78 | 95.65 | 0.136 |  |  |  |" in text
    assert "| `bn` | 2 | 95.20 ± 0.14 | 95.75 | 0.136 | -2.55 ± 0.64 | 0.004 | 0.008 |" in text
    assert "| `bn+sh` | 2 | 98.70 ± 0.79 | 96.85 | 0.136 | +0.92 ± 0.02 | 0.21 | 0.22 |" in text
    assert "| `sh` | 2 | 98.05 ± 0.81 | 94.95 | 0.136 | +0.30 ± 0.01 | no test | no test |" in text
    assert "number of attentions tested, 2." in text
    assert "The weights here are those of `bn+sh`" in text
    assert "seed 21, the best on validation (97.40 %): test accuracy 98.11 %" in text
    assert "`bn+sh` is slower (1.31 times the time) in inference" in text
    assert "faster (0.52 times the time) in inference and as fast in a training step" in text
    assert "| 29 | 4 | `bn+sh` | 0.75 | 0.80 | 1.31 | 1.20 |" in text
    assert "| head_scales | [1, 1, 2, 2] |" in text
    assert "A Processor (x86_64); 2 cores, 3 threads; 15.6 GiB of memory; no accelerator" in text
    assert results["command"] in text
    assert "ab" * 32 in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.5, "12 seconds"), (30, "4 minutes"), (1800, "4 hours")],
    ids=["seconds", "minutes", "hours"],
)
def test_the_card_says_how_long_the_whole_table_took(results, seconds, words):
    for run in results["runs"]:
        run["train_seconds"] = seconds
    assert f"training took {words}, all runs of the table together" in render_card(results)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (
            "time-series-classification",
            ["test set of 370 series", "12 channels, 7 to 29 time steps", "longer than 29"],
        ),
        ("text-classification", ["test set of 370 texts", "40 to 1024 tokens", "More than 1024 tokens"]),
        ("image-classification", ["test set of 370 images", "1 channel, 28 x 35 pixels", "learned for 28 x 35"]),
        ("document-matching", ["test set of 370 pairs of documents", "100 to 4000 tokens", "see the whole document"]),
    ],
)
def test_the_card_speaks_of_its_kind_of_data(task, words):
    text = render_card(table(task))
    for expected in words:
        assert expected in text


def test_what_may_be_left_out_leaves_no_trace(results):
    text = render_card(results)
    assert "![learning curves](learning_curves.png)" in text
    assert "searched in 20 trials, the best by validation loss" in text
    assert '| head_scales | ["1 1 2 2", "1 2 4 8"] | 1 1 2 2 |' in text
    assert "Of the official training set: 270 of 1,080 examples, drawn class by class with seed 0." in text
    assert "It emitted 12.3 g of CO2 equivalent, measured by a meter." in text
    for path in OPTIONAL:
        results = without(results, path)
    text = render_card(results)
    for word in ("Learning curves", "![", "searched", "official", "co2", "CO2", "datasets:"):
        assert word not in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            comparison(0.01, 0.001, 0.002, 0.004),
            "`bn+sh` beats `softmax` here: it is 1.00 points above it, more than noise explains (adjusted p = 0.004",
        ),
        (
            comparison(-0.01, 0.001, 0.000001, 0.000002),
            "`bn+sh` loses to `softmax` here: it is 1.00 points below it, more than noise explains (adjusted p < "
            "0.0001, 2 pairs",
        ),
        (
            comparison(0.01, 0.02, 0.03, 0.06),
            "`bn+sh` neither beats `softmax` here nor loses to it: it is 1.00 points above it, a difference that "
            "noise may explain (adjusted p = 0.06, 2 pairs of seeds).",
        ),
        (
            comparison(0.0, 0.01, 1.0, 1.0),
            "`bn+sh` neither beats `softmax` here nor loses to it: it is level with it (adjusted p = 1, 2",
        ),
        (
            comparison(0.0, 0.0, None, None),
            "neither beats `softmax` here nor loses to it: it is level with it on each of 2 seeds.",
        ),
        (
            comparison(0.01, 0.0, None, None),
            "`bn+sh` is 1.00 points above `softmax` here on each of 2 seeds alike: a difference without variance "
            "cannot be tested",
        ),
        (
            {**comparison(0.01, None, None, None), "pairs": 1},
            "`bn+sh` is 1.00 points above `softmax` here, on too few seeds to tell",
        ),
    ],
    ids=["better", "worse", "within noise", "no difference", "equal", "the same difference", "one seed"],
)
def test_the_verdict_follows_from_the_test(results, entry, sentence):
    results["comparisons"]["bn+sh"] = entry
    assert sentence in render_card(results)


def test_every_attention_of_the_table_has_its_verdict(results):
    text = render_card(results)
    released = text.index("`bn+sh` neither beats `softmax`")
    assert released < text.index("- `bn` loses to `softmax` here") < text.index("- `sh` is 0.30 points above")


def test_a_table_of_one_attention_names_no_other(results):
    results["attentions"] = ["bn+sh"]
    results["runs"] = [run for run in results["runs"] if run["attention"] in ("softmax", "bn+sh")]
    text = render_card(results)
    assert "other attentions" not in text
    assert "`sh` is" not in text
    assert "\n\n\n" not in text


def test_one_seed_has_no_deviation(results):
    results["summary"]["bn+sh"]["test_accuracy_std"] = None
    assert "(one seed)" in render_card(results)


def test_a_setting_cannot_break_the_table(results):
    results["settings"]["pattern"] = "a|b\nc"
    assert "| pattern | a\\|b c |" in render_card(results)


@pytest.mark.parametrize("task", TASKS)
def test_every_table_is_rectangular(task):
    for block in re.findall(r"(?:^\|.*\n)+", render_card(table(task)), flags=re.MULTILINE):
        lines = block.splitlines()
        assert len(lines) > 2
        assert len({line.count(" | ") for line in lines if not line.startswith("|---")}) == 1, block


@pytest.mark.parametrize("task", TASKS)
def test_the_template_holds_no_number_and_uses_only_what_it_is_given(task, monkeypatch):
    template = files("hf_primaldual.hub").joinpath("card_template.md").read_text(encoding="utf-8")
    assert not re.search(r"\d+[.,]\d+|\d\s*%", template.replace("2406.13781", ""))
    strict = jinja2.Template
    monkeypatch.setattr(jinja2, "Template", lambda text: strict(text, undefined=jinja2.StrictUndefined))
    results = table(task)
    for path in OPTIONAL:
        render_card(results)
        results = without(results, path)
    render_card(results)


def test_a_card_is_written_beside_its_results(results, tmp_path):
    save_results(results, tmp_path / "results.json")
    with pytest.raises(FileNotFoundError, match=r"lacks learning_curves\.png"):
        write_card(tmp_path)
    (tmp_path / "learning_curves.png").write_bytes(b"a picture")
    path = write_card(tmp_path)
    assert path == tmp_path / "README.md"
    assert path.read_bytes() == render_card(results).encode()
    assert ModelCard.load(path).data.model_name == results["model_name"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "learning_curves.png", "results.json"]


def test_bad_results_leave_the_card_alone(results, tmp_path):
    card = tmp_path / "README.md"
    card.write_text("as it was")
    (tmp_path / "results.json").write_text(json.dumps(without(results, ("runs", 0, "seed"))))
    with pytest.raises(ValueError, match=r"'runs\[0\]\.seed' is missing"):
        write_card(tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(FileNotFoundError):
        write_card(tmp_path)
    assert card.read_text() == "as it was"
