"""The results file and the card rendered from it."""

import copy
import json
import math
import re
from importlib.resources import files

import jinja2
import pytest
from huggingface_hub import ModelCard

from hf_primaldual.hub.card import render_card, write_card
from hf_primaldual.hub.results import load_results, save_results, validate_results
from hf_primaldual.measure import environment


def run(attention, seed, validation, test, released=False):
    return {
        "attention": attention,
        "seed": seed,
        "best_epoch": 12.0,
        "epochs": 30,
        "validation_accuracy": validation,
        "test_accuracy": test,
        "test_loss": 0.1234,
        "train_seconds": 12.5,
        "released": released,
    }


def cost(parameters, scale):
    quartiles = {"median": 1.2 * scale, "q1": 1.1 * scale, "q3": 1.4 * scale}
    return {
        "parameters": parameters,
        "forward_flops": 3_100_000 * scale,
        "train_step_flops": 9_300_000 * scale,
        "inference_ms": quartiles,
        "train_step_ms": {key: 4 * value for key, value in quartiles.items()},
        "peak_memory_bytes": 2**21 * scale,
    }


def point(tokens, inference_ratio, train_step_ratio):
    return {
        "batch": 4,
        "tokens": tokens,
        "softmax": cost(104_201, 4),
        "bn+sh": cost(104_203, 3),
        "inference_ratio": inference_ratio,
        "train_step_ratio": train_step_ratio,
        "flops_ratio": 0.75,
        "memory_ratio": 0.8,
    }


@pytest.fixture
def results():
    return {
        "schema": 1,
        "command": "python scripts/run_time_series_classification.py --attention bn+sh",
        "date": "2026-11-24",
        "model_name": "primal-dual-japanese-vowels-bn-sh",
        "task": "time-series-classification",
        "attention": "bn+sh",
        "baseline": "softmax",
        "license": "apache-2.0",
        "dataset": {
            "name": "JapaneseVowels",
            "source": "UEA archive, shipped in aeon 1.6.0",
            "sha256": {"train": "ab" * 32, "test": "cd" * 32},
            "licence": "BSD-3-Clause",
            "train": 216,
            "validation": 54,
            "test": 370,
            "classes": 9,
            "channels": 12,
            "length": [7, 29],
        },
        "settings": {"learning_rate": 0.0015, "head_scales": [1, 1, 2, 2], "bn_scaling": True, "pooling": None},
        "runs": [
            run("softmax", 21, 0.961, 0.972),
            run("softmax", 22, 0.952, 0.983),
            run("bn+sh", 21, 0.974, 0.9811, released=True),
            run("bn+sh", 22, 0.963, 0.9922),
        ],
        "summary": {
            "softmax": {
                "seeds": 2,
                "test_accuracy_mean": 0.9775,
                "test_accuracy_std": 0.0078,
                "validation_accuracy_mean": 0.9565,
            },
            "bn+sh": {
                "seeds": 2,
                "test_accuracy_mean": 0.987,
                "test_accuracy_std": 0.0079,
                "validation_accuracy_mean": 0.9685,
            },
        },
        "comparison": {"difference_mean": 0.00915, "difference_std": 0.0002, "pairs": 2},
        "efficiency": [point(29, 1.31, 1.2), point(1024, 0.52, 1.001)],
        "hardware": {
            "processor": "A Processor (x86_64)",
            "cores": 2,
            "threads": 3,
            "memory_gib": 15.6,
            "accelerator": None,
        },
        "versions": {
            "python": "3.11.7",
            "torch": "2.13.0",
            "transformers": "5.24.0",
            "accelerate": None,
            "hf_primaldual": "0.1.0",
            "revision": "0123abc-dirty",
        },
    }


def leaves(value, path=()):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def changed(results, path, value):
    results = copy.deepcopy(results)
    place = results
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return results


def without(results, path):
    results = copy.deepcopy(results)
    place = results
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return results


# The card


def test_the_same_results_give_the_same_card(results):
    assert render_card(results) == render_card(copy.deepcopy(results))
    assert render_card(results).endswith("}\n```\n")


def test_any_number_that_changes_changes_the_card(results):
    card = render_card(results)
    numbers = [
        (path, value)
        for path, value in leaves(results)
        if isinstance(value, int | float) and not isinstance(value, bool) and path != ("schema",)
    ]
    assert len(numbers) > 90
    for path, value in numbers:
        another = value + 0.004 if "accuracy" in str(path[-1]) else value * 2
        assert render_card(changed(results, path, another)) != card, path


def test_any_text_that_changes_changes_the_card(results):
    card = render_card(results)
    names = {("attention",), ("baseline",)}
    texts = [(path, value) for path, value in leaves(results) if isinstance(value, str) and path not in names]
    for path, value in texts:
        if path[0] != "runs":
            assert render_card(changed(results, path, value + "x")) != card, path


def test_the_metadata_reads_back(results):
    card = ModelCard(render_card(results))
    data = card.data
    assert data.license == "apache-2.0"
    assert data.library_name == "transformers"
    assert data.tags == ["primal-dual-attention", "time-series-classification", "attention-bn-sh"]
    assert "pipeline_tag" not in data.to_dict()
    assert data.model_name == results["model_name"]
    assert [result.metric_value for result in data.eval_results] == [0.987, 0.9811]
    assert {result.metric_type for result in data.eval_results} == {"accuracy"}
    assert {result.dataset_name for result in data.eval_results} == {"JapaneseVowels"}
    assert str(card).rstrip("\n") == render_card(results).rstrip("\n")


def test_the_card_says_what_was_measured(results):
    text = render_card(results)
    assert "| `softmax` | 2 | 97.75 ± 0.78 | 95.65 |" in text
    assert "| `bn+sh` | 2 | 98.70 ± 0.79 | 96.85 |" in text
    assert "those of seed 21" in text
    assert "`bn+sh` is slower (1.31 times the time) in inference" in text
    assert "faster (0.52 times the time) in inference and as fast in a training step" in text
    assert "| 29 | 4 | ratio |  | 0.75 |  | 0.80 | 1.31 | 1.20 |" in text
    assert "| head_scales | [1, 1, 2, 2] |" in text
    assert "A Processor (x86_64); 2 cores, 3 threads; 15.6 GiB of memory; no accelerator" in text
    assert results["command"] in text
    assert "ab" * 32 in text


@pytest.mark.parametrize(
    ("mean", "deviation", "pairs", "sentence"),
    [
        (0.01, 0.001, 5, "`bn+sh` beats `softmax` here: it is 1.00 points above it, more than the noise of 0.09"),
        (-0.01, 0.001, 5, "`bn+sh` does not beat `softmax` here: it is 1.00 points below it, more than the noise"),
        (0.01, 0.02, 5, "neither beats `softmax` here nor loses to it: it is 1.00 points above it, within the noise"),
        (0.0, 0.0, 5, "neither beats `softmax` here nor loses to it: it is level with it"),
        (0.01, None, 1, "`bn+sh` is 1.00 points above `softmax` here, on too few seeds"),
    ],
    ids=["better", "worse", "within noise", "equal", "one seed"],
)
def test_the_verdict_follows_from_the_numbers(results, mean, deviation, pairs, sentence):
    results["comparison"] = {"difference_mean": mean, "difference_std": deviation, "pairs": pairs}
    assert sentence in render_card(results)


def test_one_seed_has_no_deviation(results):
    results["summary"]["bn+sh"]["test_accuracy_std"] = None
    assert "(one seed)" in render_card(results)


def test_a_setting_cannot_break_the_table(results):
    results["settings"]["pattern"] = "a|b\nc"
    assert "| pattern | a\\|b c |" in render_card(results)


def test_every_table_is_rectangular(results):
    for block in re.findall(r"(?:^\|.*\n)+", render_card(results), flags=re.MULTILINE):
        lines = block.splitlines()
        assert len(lines) > 2
        assert len({line.count(" | ") for line in lines if not line.startswith("|---")}) == 1, block


def test_the_python_in_the_card_compiles(results):
    snippets = re.findall(r"```python\n(.*?)```", render_card(results), flags=re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        compile(snippet, "card", "exec")


def test_the_template_holds_no_number_and_uses_only_what_it_is_given(results, monkeypatch):
    template = files("hf_primaldual.hub").joinpath("card_template.md").read_text(encoding="utf-8")
    assert not re.search(r"\d+[.,]\d+|\d\s*%", template.replace("2406.13781", ""))
    strict = jinja2.Template
    monkeypatch.setattr(jinja2, "Template", lambda text: strict(text, undefined=jinja2.StrictUndefined))
    render_card(results)


def test_a_card_is_written_beside_its_results(results, tmp_path):
    save_results(results, tmp_path / "results.json")
    path = write_card(tmp_path)
    assert path == tmp_path / "README.md"
    assert path.read_bytes() == render_card(results).encode()
    assert ModelCard.load(path).data.model_name == results["model_name"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "results.json"]


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


# The results file


def test_results_come_back_as_they_were_saved(results, tmp_path):
    save_results(results, tmp_path / "results.json")
    loaded = load_results(tmp_path / "results.json")
    assert loaded == results
    assert list(loaded) == list(results)


def test_the_environment_fits_the_schema(results):
    results.update(environment())
    validate_results(results)
    render_card(results)


def test_each_missing_key_is_named(results):
    free = {"settings", "sha256"}
    optional = {("versions", "accelerate")}
    paths = {path[: depth + 1] for path, _ in leaves(results) for depth in range(len(path))}
    required = [p for p in paths if isinstance(p[-1], str) and not free & set(p[:-1]) and p not in optional]
    assert len(required) > 80
    for path in required:
        with pytest.raises(ValueError, match=rf"{re.escape(path[-1])}' is missing"):
            validate_results(without(results, path))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 2, "schema 2"),
        (("date",), 20261124, "'date' must be str, not int"),
        (("runs",), [], "'runs' is empty"),
        (("runs",), {}, "'runs' must be a list, not dict"),
        (("runs", 1, "seed"), "0", r"'runs\[1\].seed' must be int, not str"),
        (("runs", 1, "seed"), True, r"'runs\[1\].seed' must be int, not bool"),
        (("runs", 1, "released"), 1, r"'runs\[1\].released' must be bool, not int"),
        (("runs", 1, "test_accuracy"), 98.3, "fraction between 0 and 1"),
        (("runs", 1, "test_loss"), math.nan, r"'runs\[1\].test_loss' is nan"),
        (("settings", "nested"), {"a": 1}, "settings are flat"),
        (("settings", "rate"), math.inf, "'settings.rate' is inf"),
        (("settings", "device"), object(), "JSON cannot hold"),
        (
            ("efficiency", 0, "softmax", "inference_ms", "q1"),
            None,
            r"'efficiency\[0\].softmax.inference_ms.q1' must be",
        ),
        (("runs", 2, "released"), False, "exactly one of 'runs' must be released, not 0"),
        (("runs", 3, "released"), True, "exactly one of 'runs' must be released, not 2"),
        (("runs", 3, "validation_accuracy"), 0.99, "best validation accuracy"),
        (("baseline",), "bn+sh", "nothing to compare"),
        (("baseline",), "linear", "'summary.linear' is missing"),
        (("model_name",), 'a"; import os; "', "model_name"),
    ],
)
def test_what_is_wrong_is_named(results, path, value, message):
    with pytest.raises(ValueError, match=message):
        validate_results(changed(results, path, value))


def test_the_released_run_uses_the_attention(results):
    results["runs"][2]["released"] = False
    results["runs"][0]["released"] = True
    with pytest.raises(ValueError, match="the released run uses 'softmax', not 'bn\\+sh'"):
        validate_results(results)


def test_a_failed_save_leaves_the_old_file(results, tmp_path):
    path = tmp_path / "results.json"
    save_results(results, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nan"):
        save_results(changed(results, ("comparison", "difference_mean"), math.nan), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"schema": 1')
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        load_results(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be an object, not list"):
        load_results(path)
