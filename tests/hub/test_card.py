"""
The card rendered from a results file. `tests/test_documents.py` renders those that are committed again, and
`tests/faults/test_publishing.py` tests what a person writes into one.
"""

import copy
import re

import pytest
from huggingface_hub import ModelCard

from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.markdown import comparison_rows, markdown_table, replace_between
from hf_primaldual.hub.results import TASKS
from tests.hub.tables import OPTIONAL, changed, leaves, table, without


def test_any_value_that_changes_changes_the_card():
    results = table()
    card = render_card(results)
    names = {"schema", "task", "attention", "attentions", "baseline"}
    places = [(path, value) for path, value in leaves(results) if not {path[0], path[-1]} & names]
    assert len(places) > 200
    for path, value in places:
        # Of lists the first is enough.
        if (path[0] != "dataset" and {1, 2, 3} & set(path)) or isinstance(value, bool | None):
            continue
        if path[-1] == "seed":
            # A seed is one of every attention.
            others = copy.deepcopy(results)
            for run in others["runs"]:
                run["seed"] = 2 * value if run["seed"] == value else run["seed"]
        elif isinstance(value, str):
            # The metric starts with `validation`, a plot's name ends with its type.
            others = changed(results, path, f"{value}x" if path[-1] == "metric" else f"x{value}")
        else:
            others = changed(results, path, value + 0.004 if "accuracy" in str(path[-1]) else value * 2)
        assert render_card(others) != card, path


WORDS = {
    "time-series-classification": ["test set of 370 series", "12 channels, 7 to 29 time steps.", "longer than 29"],
    "text-classification": ["370 texts", "40 to 1024 tokens.", "More than 1024 tokens"],
    "image-classification": ["370 images", "1 channel, 28 x 35 pixels.", "learned for 28 x 35"],
    "document-matching": ["370 pairs of documents", "100 to 4000 tokens.", "see the whole document"],
    "text-generation": [
        "decoder for text generation",
        "370 blocks of text",
        "384 tokens in the vocabulary;\nblocks of 256 tokens.",
    ],
}


@pytest.mark.parametrize("task", TASKS)
def test_the_card_speaks_of_its_kind_of_data(task):
    text = render_card(table(task))
    assert all(words in text for words in WORDS[task])
    # A task that the Hub knows is a pipeline, any other a tag.
    data = ModelCard(text).data
    known = task in ("text-classification", "image-classification", "text-generation")
    assert data.pipeline_tag == (task if known else None)
    assert data.tags == ["primal-dual-attention", *([] if known else [task]), "attention-bn-sh"]
    # What may be left out leaves no trace.
    results = table(task)
    for path in OPTIONAL:
        results = without(results, path)
        assert "\n\n\n" not in render_card(results)
    for word in ("Learning curves", "![", "official", "datasets:"):
        assert word in text
        assert word not in render_card(results)


def test_the_card_of_a_language_model_has_its_perplexity():
    results = table("text-generation")
    for run, loss in zip(results["runs"], (1.0, 2.0, *[0.5] * 6), strict=True):
        run["test_loss"] = loss
    text = render_card(results)
    # Mean and deviation of e and e squared, and of twice the root of e.
    assert "| `softmax` | 5.054 ± 3.303 | 1.264 ± 0.000 |" in text
    assert "| `sh` | 1.649 ± 0.000 |" in text
    assert "best mean validation\nloss" in text
    assert "Not causal" not in text
    found = [result for result in ModelCard(text).data.eval_results if result.metric_type == "perplexity"]
    assert [(result.metric_value, result.dataset_split) for result in found] == [(1.64872, "test")]
    assert comparison_rows(results)[0]["test perplexity"] == "5.054 ± 3.303"
    del results["plots"]
    for run in results["runs"]:
        run["test_loss"] = None
    assert "| `softmax` | not measured |" in render_card(results)


NEITHER = "neither beats `softmax` here nor loses to it: it is"
# Difference, its deviation, p and the adjusted p, pairs of seeds; and what the card says after the attention's name.
VERDICTS = {
    "better": (0.01, 0.001, 0.002, 0.004, 2, "beats `softmax` here: it is 1.00 points above it, more than noise"),
    "worse": (
        -0.01,
        0.001,
        1e-6,
        2e-6,
        2,
        "below it, more than noise explains (adjusted p < 0.0001, 2 pairs of seeds)",
    ),
    "noise": (0.01, 0.02, 0.03, 0.06, 2, f"{NEITHER} 1.00 points above it, a difference that noise may explain (adj"),
    "no difference": (0.0, 0.01, 1.0, 1.0, 2, f"{NEITHER} level with it (adjusted p = 1, 2"),
    "equal": (0.0, 0.0, None, None, 2, f"{NEITHER} level with it on each of 2 seeds."),
    "alike": (
        0.01,
        0.0,
        None,
        None,
        2,
        "above `softmax` here on each of 2 seeds alike: a difference without variance",
    ),
    "one seed": (0.01, None, None, None, 1, "is 1.00 points above `softmax` here, on too few seeds to tell"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_follows_from_the_test(name):
    mean, deviation, p_value, adjusted, pairs, sentence = VERDICTS[name]
    # A table of one attention, which names no other.
    results = table()
    results["attentions"] = ["bn+sh"]
    results["comparisons"]["bn+sh"] = {
        "difference_mean": mean,
        "difference_std": deviation,
        "pairs": pairs,
        "p_value": p_value,
        "p_value_adjusted": adjusted,
        "significant": adjusted is not None and adjusted < 0.05,
    }
    results["runs"] = [run for run in results["runs"] if run["attention"] in ("softmax", "bn+sh")]
    results["summary"]["bn+sh"]["test_accuracy_std"] = deviation
    text = render_card(results)
    assert sentence in text
    assert not any(words in text for words in ("other attentions", "`sh` is", "\n\n\n"))
    assert ("98.70 (one seed)" in text) == (deviation is None)


def test_every_attention_of_a_comparison_has_its_row():
    rows = [list(row.values()) for row in comparison_rows(table())]
    assert [row[0] for row in rows] == ["`softmax`", "`bn`", "`bn+sh`", "`sh`"]
    assert rows[0][1:] == ["97.75 ± 0.78", "", "", "", "1", "1"]
    assert rows[1][1:] == ["95.20 ± 0.14", "-2.55 ± 0.64", "0.008", "worse", "0.90", "1.50"]
    assert [row[3:5] for row in rows[2:]] == [["0.220", "no"], ["no test", "no"]]


def test_no_cell_breaks_a_table_of_markdown():
    assert markdown_table(["a", "b"], [["1", "x|y\nz"]]) == "| a | b |\n|---|---|\n| 1 | x\\|y z |"
    assert markdown_table("abc", [], "lr-").splitlines()[1] == "|:---|---:|---|"
    for rows, align in ([["1"]], None), ([], "l"):
        with pytest.raises(ValueError, match="columns a, b needs 2 cells"):
            markdown_table(["a", "b"], rows, align)


def test_what_stands_between_two_comments_is_replaced():
    text = "<!-- one -->\nold\n<!-- end of one -->\n<!-- two -->\n<!-- end -->\n"
    once = replace_between(text, "one", "new \\1\n")
    assert once == "<!-- one -->\nnew \\1\n<!-- end of one -->\n<!-- two -->\n<!-- end -->\n"
    assert re.search("two -->\nx\n<!-- end -->\n$", replace_between(once, "two", "x"))
    for broken in (text * 2, text.replace("<!-- one -->", ""), text.replace("<!-- end of one -->", "")):
        with pytest.raises(ValueError, match=r"must have `<!-- one -->` and `<!-- end of one -->` once"):
            replace_between(broken, "one", "x")
