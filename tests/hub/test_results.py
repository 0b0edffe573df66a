"""The results file: what it refuses, and that it is written whole."""

import re

import pytest

from hf_primaldual.hub.results import TASKS, load_results, save_results, validate_results
from hf_primaldual.measure import environment
from tests.hub.tables import OPTIONAL, changed, leaves, table, without


def test_results_come_back_as_they_were_saved_and_a_failed_save_leaves_them(tmp_path):
    path, results = tmp_path / "results.json", {**table(), **environment()}
    save_results(results, path)
    assert load_results(path) == results
    assert list(load_results(path)) == list(results)
    before = path.read_text()
    with pytest.raises(ValueError, match="'date' is 5"):
        save_results(changed(results, ("date",), 5), path)
    # Whoever reads meanwhile has the old file, whole.
    with path.open() as reader:
        save_results(changed(results, ("date",), "tomorrow"), path)
        assert reader.read() == before != path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


# All keys are tried for one task; what differs between them is in `dataset`.
@pytest.mark.parametrize("task", TASKS)
def test_each_missing_key_is_named_but_for_those_that_may_be_left_out(task):
    results = table(task)
    free = {"settings", "sha256", "space", "best"}
    paths = {path[: depth + 1] for path, _ in leaves(results) for depth in range(len(path))}
    paths = [p for p in paths if isinstance(p[-1], str) and not free & set(p[:-1])]
    assert len(paths) > 200
    for path in paths if task == TASKS[0] else [path for path in paths if path[0] == "dataset"]:
        if path in (*OPTIONAL, ("dataset", "length")):
            validate_results(without(results, path))
        else:
            with pytest.raises(ValueError, match=rf"{re.escape(path[-1])}' is missing"):
                validate_results(without(results, path))


BEST = ("summary", "sh", "validation_accuracy_mean")
# The place, the value that is wrong there, and what is said.
WRONG = [
    ("date", 20261124, "'date' is 20261124: input should be a valid string"),
    ("task", "regression", "'task' is 'regression': input should be 'time-series-classification', .*"),
    ("task", "image-classification", "'dataset.image_size' is missing"),
    ("attention", "sparse", r"'attention' must be one of 'attentions', bn, bn\+sh, sh; not 'sparse'"),
    ("attention", "sh", r"exactly one .* of 'attention', 'sh'; those released are of: 'bn\+sh'"),
    ("attentions", [], r"'attentions' is \[\]: list should have at least 1 item"),
    ("attentions", ["bn", "bn+sh"], r"'runs\[6\].attention' is 'sh', not of the table"),
    ("attentions", ["bn", "bn+sh", "sh", "linear"], "'summary.linear' is missing"),
    ("baseline", "bn+sh", r"name one twice, .*: bn\+sh, bn, bn\+sh, sh"),
    ("dataset length", [7], r"'dataset.length' is \[7\]: list should have at least 2 items"),
    ("runs 7 seed", 23, r"every seed once for each name; 'sh' has \[21, 23\], 'softmax' \[21, 22\]"),
    ("runs 1 test_accuracy", 98.3, r"'runs\[1\].test_accuracy' is 98.3: .* less than or equal to 1"),
    ("runs 5 released", True, r"those released are of: 'bn\+sh', 'bn\+sh'"),
    ("runs 5 validation_accuracy", 0.99, "not the one with the best validation accuracy, 0.99"),
    ("summary sh validation_accuracy_mean", 0.97, r"'attention' is 'bn\+sh', but 'sh' is better on validation"),
    ("settings nested", {"a": 1}, "'settings.nested' must be a plain value, not .*: settings are flat"),
    ("settings device", object(), "JSON cannot hold 'settings'"),
    ("comparisons bn p_value", None, "comparisons.bn: of 'p_value' and .* only one is null"),
    ("comparisons bn significant", False, r"significant' must say whether 'p_value_adjusted' \(0.008\)"),
    ("comparisons bn p_value_adjusted", 0.05, "comparisons.bn: 'significant' must say whether"),
    ("plots", ["../curves.png"], r"'plots\[0\]' is '../curves.png'"),
    ("model_name", 'a"; import os; "', "model_name"),
    ("repo_id", "name", "'repo_id' is 'name'"),
]


@pytest.mark.parametrize(("place", "value", "message"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named(place, value, message):
    path = tuple(int(key) if key.isdigit() else key for key in place.split())
    with pytest.raises(ValueError, match=message):
        validate_results(changed(table(), path, value))


def test_equal_accuracies_are_settled_by_the_loss():
    results = changed(table(), BEST, 0.9685)
    validate_results(results)
    with pytest.raises(ValueError, match="'sh' is better on validation"):
        validate_results(changed(results, ("summary", "sh", "validation_loss_mean"), 0.13))


def test_a_language_model_is_chosen_by_its_loss():
    results = changed(table("text-generation"), BEST, 0.99)
    validate_results(results)
    with pytest.raises(ValueError, match="'sh' is better on validation"):
        validate_results(changed(results, ("summary", "sh", "validation_loss_mean"), 0.13))
    with pytest.raises(ValueError, match=r"not the one with the best validation loss, 0\.2"):
        validate_results(changed(results, ("runs", 5, "validation_loss"), 0.2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 2', r"results\.json is not JSON"),
        ("[]", r"'the whole' is \[\]: input should be a valid dictionary"),
        ('{"schema": 1, "comparison": {}}', "schema 1 is not the one read here, 2; run the command"),
    ],
    ids=["cut", "list", "older"],
)
def test_a_file_of_something_else_is_named(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_results(tmp_path / "results.json")
