"""The trainer of the runs: which checkpoints count, averaged weights, and what stops it."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from transformers import EvalPrediction

from hf_primaldual.training.arguments import ComparisonArguments
from hf_primaldual.training.runs import last_checkpoint
from hf_primaldual.training.trainer import ComparisonTrainer, compute_accuracy_and_loss


class Line(nn.Module):
    """Fits y = 2x."""

    main_input_name = "x"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, labels):
        logits = self.weight * x
        return {"loss": ((logits - labels) ** 2).mean(), "logits": logits}


def collate(examples):
    return {name: torch.tensor([float(example[name]) for example in examples]) for name in ("x", "labels")}


def points():
    return [{"x": x / 10, "labels": x / 5, "example_id": x} for x in range(20)]


def line_trainer(folder, rows=None, **settings):
    fixed = {"per_device_train_batch_size": 4, "learning_rate": 0.1, "lr_scheduler_type": "constant", "optim": "sgd"}
    fixed |= {"max_steps": 4, "logging_strategy": "steps", "disable_tqdm": True, "label_names": ["labels"]}
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    once = {"eval_strategy": "no", "load_best_model_at_end": False}
    return ComparisonTrainer(
        args=ComparisonArguments(str(folder), **(fixed | saving | once | settings)),
        model_init=Line,
        train_dataset=rows or points(),
        eval_dataset=points(),
        data_collator=collate,
    )


@pytest.mark.parametrize("state", [None, "", '{"best_metric": 1,', "{}"], ids=["none", "empty", "half", "whole"])
def test_a_checkpoint_counts_once_its_state_is_written(tmp_path, state):
    assert last_checkpoint(tmp_path / "not there") is None
    for step in (2, 9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    if state is None:
        (tmp_path / "checkpoint-10" / "trainer_state.json").unlink()
    else:
        (tmp_path / "checkpoint-10" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path).name == ("checkpoint-10" if state == "{}" else "checkpoint-9")


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_examples(tmp_path):
    rows = points()
    rows[13]["labels"] = float("nan")
    trainer = line_trainer(tmp_path, rows, max_steps=5)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step \d of process 0.*\b13\b.*learning_rate"):
        trainer.train()
    done = trainer.state.global_step
    assert done < 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"checkpoint-{step + 1}" for step in range(done)]
    assert torch.isfinite(trainer.model.weight)


def test_the_average_follows_its_formula_and_is_what_is_evaluated(tmp_path):
    trainer, weights = line_trainer(tmp_path, ema_decay=0.5), []
    step = trainer.training_step

    def watch(*args, **kwargs):
        weights.append(trainer.model.weight.item())
        return step(*args, **kwargs)

    trainer.training_step = watch
    trainer.train()
    raw = trainer.model.weight.item()
    average = weights[1]
    for weight in [*weights[2:], raw]:
        average = 0.5 * average + 0.5 * weight
    assert trainer.average.module.weight.item() == pytest.approx(average, rel=1e-5)

    rows = collate(points())
    expected = ((average * rows["x"] - rows["labels"]) ** 2).mean().item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-4)
    assert trainer.model.weight.item() == raw
    # A second training, as a search has, averages from its own beginning.
    trainer.train()
    assert trainer.average.module.weight.item() == pytest.approx(average, rel=1e-5)
    trainer.keep_average()
    assert trainer.model.weight.item() == pytest.approx(average, rel=1e-5)


def test_the_average_of_the_best_checkpoint_is_loaded_at_the_end(tmp_path):
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "greater_is_better": True}
    # The loss falls, so that the best by the greatest loss is the first.
    trainer = line_trainer(tmp_path, ema_decay=0.5, metric_for_best_model="loss", **best)
    trainer.train()
    assert (trainer.state.best_global_step, trainer.average.n_averaged) == (1, 1)
    assert trainer.average.module.weight.item() == trainer.model.weight.item()


def test_radam_learns_at_the_rate_of_the_moment_as_a_search_sets_it(tmp_path):
    trainer = line_trainer(tmp_path, optimizer="radam")
    trainer.args.learning_rate = 0.5
    assert (type(trainer.create_optimizer()), trainer.optimizer.defaults["lr"]) == (torch.optim.RAdam, 0.5)


def test_the_time_before_a_resumption_counts(tmp_path):
    line_trainer(tmp_path / "whole", logging_steps=1).train()
    state = Path(tmp_path, "whole", "checkpoint-2", "trainer_state.json")
    state.write_text(state.read_text().replace('"elapsed": 0', '"elapsed": 1000'))
    resumed = line_trainer(tmp_path / "resumed", logging_steps=1)
    resumed.train(resume_from_checkpoint=str(state.parent))
    assert 1000 < resumed.elapsed() < 2000


def test_a_failed_save_leaves_nothing_and_is_called_a_full_disk_only_if_it_is_one(tmp_path, monkeypatch):
    for error, expected in ((errno.EACCES, "^.Errno 13. no$"), (errno.ENOSPC, "the disk is full: .*checkpoint-1")):

        def fail(*args, error=error):
            raise OSError(error, "no")

        monkeypatch.setattr("transformers.TrainerState.save_to_json", fail)
        with pytest.raises(OSError, match=expected):
            line_trainer(tmp_path).train()
        assert list(tmp_path.iterdir()) == []


def test_accuracy_and_loss_are_means_over_all_examples():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(57, 4)).astype(np.float32), generator.integers(0, 4, 57)
    probabilities = np.exp(logits.astype(np.float64))
    loss = log_loss(labels, probabilities / probabilities.sum(1, keepdims=True), labels=range(4))
    # Some models have other outputs behind the logits.
    for predictions in (logits, (logits, np.zeros(1))):
        found = compute_accuracy_and_loss(EvalPrediction(predictions, labels))
        expected = {"accuracy": accuracy_score(labels, logits.argmax(1)), "loss": loss}
        assert found == pytest.approx(expected, rel=1e-5)
