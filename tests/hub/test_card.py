"""The card rendered from a results file; `tests/faults/test_publishing.py` tests what a person writes into one."""

import copy
import re
from importlib.resources import files

import pytest
from huggingface_hub import ModelCard

from hf_primaldual.hub.card import render_card, write_card
from hf_primaldual.hub.results import TASKS, save_results
from tests.hub.tables import OPTIONAL, changed, comparison, leaves, table, without


@pytest.mark.parametrize("task", TASKS)
def test_any_value_that_changes_changes_the_card(task):
    results = table(task)
    card = render_card(results)
    names = {"schema", "task", "attention", "attentions", "baseline"}
    places = [(path, value) for path, value in leaves(results) if not {path[0], path[-1]} & names]
    assert len(places) > 200
    for path, value in places:
        # Of lists the first is enough, and all but the data for one task.
        if (path[0] != "dataset" and (task != TASKS[0] or {1, 2, 3} & set(path))) or isinstance(value, bool | None):
            continue
        if path[-1] == "seed":
            # A seed is one of every attention.
            others = copy.deepcopy(results)
            for run in others["runs"]:
                run["seed"] = 2 * value if run["seed"] == value else run["seed"]
        elif isinstance(value, str):
            # A plot's name ends with its type.
            others = changed(results, path, f"x{value}")
        else:
            others = changed(results, path, value + 0.004 if "accuracy" in str(path[-1]) else value * 2)
        assert render_card(others) != card, path


def test_the_metadata_read_back():
    results = table()
    data = ModelCard(render_card(results)).data
    assert (data.license, data.library_name, data.datasets) == ("apache-2.0", "transformers", ["some/data"])
    assert data.model_name == results["model_name"]
    assert {(result.dataset_name, result.dataset_type) for result in data.eval_results} == {("SomeData", "some/data")}
    assert [result.dataset_split for result in data.eval_results if result.metric_type == "accuracy"] == ["test"] * 2
    expected = {
        "Test accuracy, mean over 2 seeds (ours)": 0.987,
        "Test accuracy, these weights, seed 21 (ours)": 0.9811,
    }
    for point in results["efficiency"]:
        cost, at = point["bn+sh"], f"batch {point['batch']}, {point['tokens']} tokens (ours)"
        expected |= {
            f"Parameters, {at}": cost["parameters"],
            f"Forward FLOPs, {at}": cost["forward_flops"],
            f"Peak memory of a training step in bytes, {at}": cost["peak_memory_bytes"],
            f"Median inference time in ms, {at}": cost["inference_ms"]["median"],
            f"Median training step time in ms, {at}": cost["train_step_ms"]["median"],
        }
    assert {result.metric_name: result.metric_value for result in data.eval_results} == expected


WORDS = {
    "time-series-classification": ["test set of 370 series", "12 channels, 7 to 29 time steps.", "longer than 29"],
    "text-classification": ["370 texts", "40 to 1024 tokens.", "More than 1024 tokens"],
    "image-classification": ["370 images", "1 channel, 28 x 35 pixels.", "learned for 28 x 35"],
    "document-matching": ["370 pairs of documents", "100 to 4000 tokens.", "see the whole document"],
}


@pytest.mark.parametrize("task", TASKS)
def test_the_card_speaks_of_its_kind_of_data(task):
    text = render_card(table(task))
    assert all(words in text for words in WORDS[task])
    # A task that the Hub knows is a pipeline, any other a tag.
    data, known = ModelCard(text).data, task in ("text-classification", "image-classification")
    assert data.pipeline_tag == (task if known else None)
    assert data.tags == ["primal-dual-attention", *([] if known else [task]), "attention-bn-sh"]
    # Every table is rectangular, and what may be left out leaves no trace.
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = block.splitlines()
        assert len(lines) > 2
        assert len({line.count(" | ") for line in lines if not line.startswith("|---")}) == 1, block
    results = table(task)
    for path in OPTIONAL:
        results = without(results, path)
        assert "\n\n\n" not in render_card(results)
    for word in ("Learning curves", "![", "official", "datasets:"):
        assert word in text
        assert word not in render_card(results)


SENTENCES = """
| `softmax` | 2 | 97.75 ± 0.78 | 95.65 | 0.136 |  |  |  |
| `bn` | 2 | 95.20 ± 0.14 | 95.75 | 0.136 | -2.55 ± 0.64 | 0.004 | 0.008 |
| `bn+sh` | 2 | 98.70 ± 0.79 | 96.85 | 0.136 | +0.92 ± 0.02 | 0.21 | 0.22 |
| `sh` | 2 | 98.05 ± 0.81 | 94.95 | 0.136 | +0.30 ± 0.01 | no test | no test |
number of attentions tested, 2.
The weights here are those of `bn+sh`
seed 21, the best on validation (97.40 %): test accuracy 98.11 %.
| `bn+sh`, released | 21 | 12 | 30 | 97.40 | 0.234 | 98.11 | 0.123 | 12.5 |
- `bn` loses to `softmax` here
- `sh` is 0.30 points above
beside `softmax`, `bn+sh` is slower (1.31 times the time) in inference and slower (1.20 times
faster (0.52 times the time) in inference and as fast in a training step.
| 29 | 4 | `bn+sh` | 0.75 | 0.80 | 1.31 | 1.20 |
| 29 | 4 | `bn+sh` | 104,203 | 9.3 M | 27.9 M | 6 | 3.6 (3.3 to 4.2) | 14.4 (13.2 to 16.8) |
| head_scales | [1, 1, 2, 2] |
| bn_scaling | true |
| pooling | null |
| pattern | a\\|b c |
![learning curves](learning_curves.png)
Of the official training set: 270 of 1,080 examples, drawn class by class with seed 0.
A Processor (x86_64); 2 cores, 3 threads; 15.6 GiB of memory; no accelerator.
"""


def test_the_card_says_what_was_measured():
    results = table()
    results["settings"]["pattern"] = "a|b\nc"
    text = render_card(results)
    for sentence in [*SENTENCES.strip().splitlines(), results["command"]]:
        assert sentence in text, sentence
    # The released attention's verdict comes first.
    assert text.index("`bn+sh` neither beats `softmax`") < text.index("- `bn` loses to `softmax` here")
    for seconds, words in ((1.5, "12 seconds"), (30, "4 minutes"), (1800, "4 hours")):
        results["runs"] = [{**run, "train_seconds": seconds} for run in results["runs"]]
        assert f"training took {words}, all runs of the table together" in render_card(results)


NEITHER = "neither beats `softmax` here nor loses to it: it is"
ALIKE = "on each of 2 seeds alike: a difference without variance cannot be tested"
# Difference, its deviation, p and the adjusted p, pairs of seeds; and what the card says after the attention's name.
VERDICTS = {
    "better": (0.01, 0.001, 0.002, 0.004, 2, "beats `softmax` here: it is 1.00 points above it, more than noise"),
    "worse": (-0.01, 0.001, 1e-6, 2e-6, 2, "loses to `softmax` here: it is 1.00 points below it, more than noise"),
    "p": (0.01, 0.001, 0.002, 0.004, 2, "than noise explains (adjusted p = 0.004, 2 pairs of seeds)."),
    "small p": (0.01, 0.001, 1e-6, 2e-6, 2, "than noise explains (adjusted p < 0.0001, 2 pairs of seeds)."),
    "noise": (0.01, 0.02, 0.03, 0.06, 2, f"{NEITHER} 1.00 points above it, a difference that noise may explain (adj"),
    "no difference": (0.0, 0.01, 1.0, 1.0, 2, f"{NEITHER} level with it (adjusted p = 1, 2"),
    "equal": (0.0, 0.0, None, None, 2, f"{NEITHER} level with it on each of 2 seeds."),
    "alike": (0.01, 0.0, None, None, 2, f"is 1.00 points above `softmax` here {ALIKE}"),
    "one seed": (0.01, None, None, None, 1, "is 1.00 points above `softmax` here, on too few seeds to tell"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_follows_from_the_test(name):
    *figures, pairs, sentence = VERDICTS[name]
    entry = {**comparison(*figures), "pairs": pairs}
    # A table of one attention, which names no other.
    results = table()
    results["attentions"], results["comparisons"]["bn+sh"] = ["bn+sh"], entry
    results["runs"] = [run for run in results["runs"] if run["attention"] in ("softmax", "bn+sh")]
    results["summary"]["bn+sh"]["test_accuracy_std"] = entry["difference_std"]
    text = render_card(results)
    assert sentence in text
    assert not any(words in text for words in ("other attentions", "`sh` is", "\n\n\n"))
    assert ("98.70 (one seed)" in text) == (entry["difference_std"] is None)


def test_the_template_holds_no_figure():
    template = files("hf_primaldual.hub").joinpath("card_template.md").read_text(encoding="utf-8")
    assert not re.search(r"\d+[.,]\d+|\d\s*%", re.sub(r"2406\.13781|\{\{.*?\}\}|\{%.*?%\}", "", template))


def test_a_card_is_written_next_to_its_results_unless_they_are_bad(tmp_path):
    (tmp_path / "README.md").write_text("as it was")
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        write_card(tmp_path)
    save_results(table(), tmp_path / "results.json")
    with pytest.raises(FileNotFoundError, match=r"lacks learning_curves\.png"):
        write_card(tmp_path)
    assert (tmp_path / "README.md").read_text() == "as it was"
    (tmp_path / "learning_curves.png").write_bytes(b"a picture")
    assert write_card(tmp_path).read_bytes() == render_card(table()).encode()
    assert len(list(tmp_path.iterdir())) == 3
