"""Settings are searched on the validation set, by a command, and never on the test set."""

import json

import pytest
import yaml
from transformers import Trainer

from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.time_series import SeriesModelArguments

from .accident import compare

FLAGS = ["--dataset", "BasicMotions", "--num_train_epochs", "3", "--seeds", "1", "--search", "3"]
FLAGS += ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]
SPACE = {
    "bn_beta": [0.25],
    "head_scales": [[1] * 8, [1, 1, 2, 2, 2, 2, 4, 4]],
    "learning_rate": {"low": "1e-4", "high": 1e-2, "log": True},
}


def search(output, *flags):
    return compare([*FLAGS, "--output_dir", str(output), *flags])


def test_a_search_reads_the_validation_set_alone_and_keeps_the_best_epoch_of_the_best_trial(tmp_path, monkeypatch):
    evaluated, evaluate = [], Trainer.evaluate

    def watch(self, eval_dataset=None, *args, **kwargs):
        metrics = evaluate(self, eval_dataset, *args, **kwargs)
        rate, model = self.lr_scheduler.base_lrs[0], self.model.config
        set_up = {"bn_beta": model.bn_beta, "head_scales": model.head_scales, "learning_rate": rate}
        evaluated.append((len(eval_dataset or self.eval_dataset), metrics["eval_loss"], set_up))
        return metrics

    monkeypatch.setattr(Trainer, "evaluate", watch)
    path = search(tmp_path, "--attention", "bn+sh", "--search_space", json.dumps(SPACE))
    # Three trials of three epochs.
    assert [size for size, *_ in evaluated] == [8] * 9
    report = json.loads(path.with_name("search.json").read_text())["bn+sh"]
    starts = (0, 3, 6)
    best_losses = [min(loss for _, loss, _ in evaluated[start : start + 3]) for start in starts]
    assert [trial["score"] for trial in report["scores"]] == best_losses
    # What a trial is said to have is what was trained, and the trials differ.
    assert [trial["settings"] for trial in report["scores"]] == [evaluated[start][2] for start in starts]
    assert len({trial["settings"]["learning_rate"] for trial in report["scores"]}) == 3
    assert report["best"] == min(report["scores"], key=lambda trial: trial["score"])["settings"]

    # The file is one that the script takes.
    found = yaml.safe_load(path.read_text())["per_attention"]["bn+sh"]
    assert found == report["best"]
    model = parse_arguments(SeriesModelArguments, argv=[str(path), "--attention", "bn+sh"])[0]
    assert model.config_fields("bn+sh")["head_scales"] == found["head_scales"]
    assert model.training_fields("bn+sh") == {"learning_rate": found["learning_rate"]}
    assert model.training_fields("softmax") == {}


def test_without_a_space_beta_and_the_factors_are_searched(tmp_path):
    path = search(tmp_path, "--attention", "bn+sh", "sh", "--num_train_epochs", "1", "--search", "1")
    found = yaml.safe_load(path.read_text())["per_attention"]
    own = {name: sorted(settings) for name, settings in found.items()}
    assert own == {"bn+sh": ["bn_beta", "bn_scaling", "head_scales"], "sh": ["head_scales"]}


@pytest.mark.parametrize(
    ("attention", "space", "message"),
    [
        ("bn", {"betta": [1]}, "`search_space`, for bn, has betta .the nearest known is"),
        ("bn", {"bn_beta": {"low": 0}}, "or have low and high"),
        ("bn", {"bn_beta": []}, "must be a list"),
        ("bn", {"bn_beta": [0.5, "x"]}, "a value of `search_space`: `bn_beta` must be a number, got 'x'"),
        ("linear", {}, "linear have no setting"),
    ],
)
def test_an_impossible_space_is_named(tmp_path, attention, space, message):
    with pytest.raises(ValueError, match=message):
        search(tmp_path / "out", "--attention", attention, "--search_space", json.dumps(space))
