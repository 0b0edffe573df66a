"""Settings are searched on the validation set, by a command, and never on the test set."""

import json

import pytest
import yaml
from transformers import Trainer

from hf_primaldual.training.arguments import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    parse_arguments,
)
from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.search import default_space
from hf_primaldual.training.time_series import series_task

FLAGS = ["--dataset", "BasicMotions", "--attention", "bn+sh", "sh", "--num_train_epochs", "3", "--seeds", "1"]
FLAGS += ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]


def search(output, *flags):
    arguments = parse_arguments(
        SeriesDataArguments,
        SeriesModelArguments,
        SeriesTrainingArguments,
        argv=[*FLAGS, "--output_dir", str(output), "--search", "3", *flags],
    )
    return run_comparison(series_task(*arguments[:2]), *arguments[1:])


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    evaluated = []
    evaluate = Trainer.evaluate

    def watch(self, eval_dataset=None, *args, **kwargs):
        metrics = evaluate(self, eval_dataset, *args, **kwargs)
        evaluated.append((len(self.eval_dataset if eval_dataset is None else eval_dataset), metrics["eval_loss"]))
        return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "evaluate", watch)
        path = search(tmp_path_factory.mktemp("search") / "out")
    return path, evaluated


def test_only_the_validation_set_is_read(searched):
    _, evaluated = searched
    # Two attentions, three trials, three epochs.
    assert [size for size, _ in evaluated] == [8] * 18


def test_the_score_of_a_trial_is_its_best_epoch_and_the_best_trial_is_kept(searched):
    path, evaluated = searched
    report = json.loads(path.with_name("search.json").read_text())
    losses = [min(loss for _, loss in evaluated[start : start + 3]) for start in range(0, 18, 3)]
    scores = [trial["score"] for name in ("bn+sh", "sh") for trial in report[name]["scores"]]
    assert scores == losses
    for name in ("bn+sh", "sh"):
        best = min(report[name]["scores"], key=lambda trial: trial["score"])
        assert report[name]["best"] == best["settings"]
        assert set(best["settings"]) == set(default_space(name, 8))


def test_what_was_found_is_a_file_that_the_script_takes(searched, tmp_path):
    path, _ = searched
    found = yaml.safe_load(path.read_text())["per_attention"]
    model = parse_arguments(SeriesModelArguments, argv=[str(path), "--attention", "bn+sh", "sh"])[0]
    assert model.config_fields("bn+sh")["bn_beta"] == found["bn+sh"]["bn_beta"]
    assert model.config_fields("sh")["head_scales"] == found["sh"]["head_scales"]
    assert model.config_fields("sh")["bn_beta"] == 1.0


def test_a_space_of_ones_own_may_hold_settings_of_the_training(tmp_path):
    space = {"bn_beta": [0.25], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    path = search(tmp_path / "out", "--attention", "bn", "--search_space", json.dumps(space))
    found = yaml.safe_load(path.read_text())["per_attention"]["bn"]
    assert found["bn_beta"] == 0.25
    assert 1e-4 <= found["learning_rate"] <= 1e-2
    model = parse_arguments(SeriesModelArguments, argv=[str(path), "--attention", "bn"])[0]
    assert model.training_fields("bn") == {"learning_rate": found["learning_rate"]}
    assert model.training_fields("softmax") == {}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"betta": [1]}, "`search_space`, for bn, has betta .the nearest known is"),
        ({"bn_beta": {"low": 0}}, "or have low and high"),
        ({"bn_beta": []}, "must be a list"),
        ({"bn_beta": [0.5, "x"]}, "a value of `search_space`: `bn_beta` must be a number, got 'x'"),
    ],
)
def test_an_impossible_space_is_named(tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        search(tmp_path / "out", "--attention", "bn", "--search_space", json.dumps(space))


def test_an_attention_without_a_setting_to_search_is_named(tmp_path):
    with pytest.raises(ValueError, match="linear have no setting"):
        search(tmp_path / "out", "--attention", "linear")
