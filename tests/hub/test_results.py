"""The results file: what it refuses, and that it is written whole."""

import json
import math
import re

import pytest

from hf_primaldual.hub.results import load_results, save_results, validate_results
from hf_primaldual.measure import environment
from tests.hub.tables import OPTIONAL, TASKS, changed, leaves, table, without


def test_results_come_back_as_they_were_saved(results, tmp_path):
    save_results(results, tmp_path / "results.json")
    loaded = load_results(tmp_path / "results.json")
    assert loaded == results
    assert list(loaded) == list(results)


def test_the_environment_fits_the_schema(results):
    results.update(environment())
    validate_results(results)


@pytest.mark.parametrize("task", TASKS)
def test_each_missing_key_is_named(task):
    results = table(task)
    free = {"settings", "sha256", "space", "best"}
    optional = {("versions", "accelerate"), *OPTIONAL}
    paths = {path[: depth + 1] for path, _ in leaves(results) for depth in range(len(path))}
    required = [p for p in paths if isinstance(p[-1], str) and not free & set(p[:-1]) and p not in optional]
    assert len(required) > 200
    for path in required:
        with pytest.raises(ValueError, match=rf"{re.escape(path[-1])}' is missing"):
            validate_results(without(results, path))


def test_what_may_be_left_out_may_be(results):
    for path in (("plots",), ("search",), ("dataset", "subset")):
        validate_results(without(results, path))
    validate_results(changed(results, ("dataset", "licence"), None))


@pytest.mark.parametrize("version", [1, 3])
def test_another_schema_is_refused_whatever_else_it_holds(tmp_path, version):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema": version, "comparison": {}}))
    with pytest.raises(ValueError, match=f"schema {version} is not the one read here, 2; run the command"):
        load_results(path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("date",), 20261124, "'date' must be str, not int"),
        (("task",), "regression", "'task' must be one of time-series-classification, .*; not 'regression'"),
        (("task",), "image-classification", "'dataset.image_size' is missing"),
        (("attention",), "sparse", r"'attention' must be one of 'attentions', bn, bn\+sh, sh; not 'sparse'"),
        (("attention",), "sh", "the released run uses 'bn\\+sh', not 'sh'"),
        (("attentions",), [], "'attentions' is empty"),
        (("attentions",), ["bn", "bn+sh", "bn"], "'attentions' names one twice: bn, bn\\+sh, bn"),
        (("attentions",), ["bn", "bn+sh"], r"'runs\[6\].attention' is 'sh', not of the table"),
        (("attentions",), ["bn", "bn+sh", "sh", "linear"], "'summary.linear' is missing"),
        (("baseline",), "bn+sh", "is the baseline and among 'attentions'"),
        (("baseline",), "linear", "'summary.linear' is missing"),
        (("dataset", "length"), [7], "'dataset.length' must be two numbers, not 1"),
        (("dataset", "length"), [7, "29"], r"'dataset.length\[1\]' must be int, not str"),
        (("dataset", "subset"), 270, "'dataset.subset' must be str, not int"),
        (("runs",), [], "'runs' is empty"),
        (("runs",), {}, "'runs' must be a list, not dict"),
        (("runs", 1, "seed"), "0", r"'runs\[1\].seed' must be int, not str"),
        (("runs", 1, "seed"), True, r"'runs\[1\].seed' must be int, not bool"),
        (("runs", 7, "seed"), 23, r"every seed once for each name; 'sh' has \[21, 23\], 'softmax' \[21, 22\]"),
        (("runs", 1, "seed"), 21, r"every seed once for each name; 'softmax' has \[21, 21\]"),
        (("runs", 1, "released"), 1, r"'runs\[1\].released' must be bool, not int"),
        (("runs", 1, "test_accuracy"), 98.3, "fraction between 0 and 1"),
        (("runs", 1, "test_loss"), math.nan, r"'runs\[1\].test_loss' is nan"),
        (("summary", "sh", "test_accuracy_mean"), 98.3, "'summary.sh.test_accuracy_mean' must be a fraction"),
        (("summary", "sh", "validation_accuracy_mean"), 0.97, "'attention' is 'bn\\+sh', but 'sh' is better"),
        (("settings", "nested"), {"a": 1}, "settings are flat"),
        (("settings", "rate"), math.inf, "'settings.rate' is inf"),
        (("settings", "device"), object(), "JSON cannot hold"),
        (("comparisons", "bn", "p_value"), None, "of 'comparisons.bn.p_value' and .* only one is null"),
        (("comparisons", "bn", "p_value"), 1.2, "'comparisons.bn.p_value' must be a fraction"),
        (("comparisons", "bn", "significant"), False, "'comparisons.bn.significant' must say whether"),
        (("comparisons", "sh", "significant"), True, "'comparisons.sh.significant' must say whether"),
        (("comparisons", "bn", "p_value_adjusted"), 0.05, "'comparisons.bn.significant' must say whether"),
        (
            ("efficiency", 0, "softmax", "inference_ms", "q1"),
            None,
            r"'efficiency\[0\].softmax.inference_ms.q1' must be",
        ),
        (("plots",), ["../curves.png"], r"'plots' must name .png or .svg files beside the card, not '../curves.png'"),
        (("search", "metric"), "test accuracy", "'search.metric' must be of the validation set"),
        (("runs", 4, "released"), False, "exactly one of 'runs' must be released, not 0"),
        (("runs", 5, "released"), True, "exactly one of 'runs' must be released, not 2"),
        (("runs", 5, "validation_accuracy"), 0.99, "best validation accuracy"),
        (("model_name",), 'a"; import os; "', "model_name"),
    ],
)
def test_what_is_wrong_is_named(results, path, value, message):
    with pytest.raises(ValueError, match=message):
        validate_results(changed(results, path, value))


def test_equal_accuracies_are_settled_by_the_loss(results):
    results = changed(results, ("summary", "sh", "validation_accuracy_mean"), 0.9685)
    validate_results(results)
    with pytest.raises(ValueError, match="'sh' is better on validation"):
        validate_results(changed(results, ("summary", "sh", "validation_loss_mean"), 0.13))


def test_the_released_run_uses_the_attention(results):
    results["runs"][4]["released"] = False
    results["runs"][0]["released"] = True
    with pytest.raises(ValueError, match="the released run uses 'softmax', not 'bn\\+sh'"):
        validate_results(results)


def test_a_failed_save_leaves_the_old_file(results, tmp_path):
    path = tmp_path / "results.json"
    save_results(results, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nan"):
        save_results(changed(results, ("comparisons", "bn", "difference_mean"), math.nan), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"schema": 2')
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        load_results(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be an object, not list"):
        load_results(path)
