"""The time-series script from flags to a checkpoint that loads, on real data."""

import json
import os

import numpy as np
import pytest
import run_time_series_classification as script
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification, Trainer

from hf_primaldual.data import load_uea
from hf_primaldual.data.splits import cut_validation
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, series_task

QUICK = ["--dataset", "BasicMotions", "--seeds", "0", "1", "--num_train_epochs", "2", "--efficiency_tokens", "128"]
SMALL = ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]
FLAGS = [*QUICK, *SMALL, "--threads", "1", "--output_dir"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return script.main([*FLAGS, str(tmp_path_factory.mktemp("run") / "out")])


def test_the_folder_is_self_contained_and_nothing_else_is_left(finished):
    files = set(os.listdir(finished))
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "results.json"} <= files
    assert {"modeling_primal_dual_time_series.py", "pipeline_primal_dual.py", "learning_curves.png"} <= files
    assert [path.name for path in finished.parent.iterdir() if path != finished] == ["settings.json"]
    card = ModelCard.load(finished / "README.md")
    assert card.data.library_name == "transformers"
    assert "--dataset BasicMotions" in card.content


def test_a_folder_that_holds_a_run_is_not_trained_into(finished, capsys):
    before = (finished / "results.json").read_bytes()
    assert script.main([*FLAGS, str(finished.parent), "--resume_from_checkpoint"]) == finished
    assert "nothing is left to do" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="--overwrite"):
        script.main([*FLAGS, str(finished.parent)])
    assert (finished / "results.json").read_bytes() == before


def test_the_results_hold_every_run_and_the_released_one_is_in_the_folder(finished):
    results = json.loads((finished / "results.json").read_text())
    assert [(run["attention"], run["seed"]) for run in results["runs"]] == [
        (name, seed) for name in ("softmax", "bn+sh") for seed in (0, 1)
    ]
    assert [point["tokens"] for point in results["efficiency"]] == [100, 128]
    released = next(run for run in results["runs"] if run["released"])
    model = AutoModelForSequenceClassification.from_pretrained(finished)
    feature_extractor = AutoFeatureExtractor.from_pretrained(finished)
    test = load_uea("BasicMotions")["test"].with_format("numpy")
    with torch.inference_mode():
        logits = model(**feature_extractor(list(test["past_values"]), return_tensors="pt")).logits
    accuracy = (logits.argmax(-1).numpy() == np.asarray(test["labels"])).mean()
    assert accuracy == pytest.approx(released["test_accuracy"])
    assert [model.config.id2label[index] for index in range(4)] == test.features["labels"].names


def test_equal_seeds_give_equal_runs_and_the_test_set_is_read_once_in_each(finished, tmp_path, monkeypatch):
    evaluated = []
    evaluate = Trainer.evaluate

    def watch(self, eval_dataset=None, *args, **kwargs):
        evaluated.append(len(self.eval_dataset if eval_dataset is None else eval_dataset))
        return evaluate(self, eval_dataset, *args, **kwargs)

    monkeypatch.setattr(Trainer, "evaluate", watch)
    again = script.main([*FLAGS, str(tmp_path / "again"), "--seeds", "1"])
    # Two epochs and the best one on 8 validation series, then once on the 40 test series; for two attentions.
    assert evaluated == [8, 8, 8, 40] * 2
    first, second = (json.loads((folder / "results.json").read_text())["runs"] for folder in (finished, again))
    alike = ("attention", "validation_accuracy", "validation_loss", "test_accuracy", "test_loss", "best_epoch")
    first = [[run[key] for key in alike] for run in first if run["seed"] == 1]
    assert first == [[run[key] for key in alike] for run in second]


def test_an_impossible_setting_stops_before_training_and_leaves_no_folder(tmp_path):
    with pytest.raises(StrictDataclassClassValidationError, match="head_scales"):
        script.main([*FLAGS, str(tmp_path / "out"), "--head_scales", "1", "2"])
    with pytest.raises(ValueError, match="must differ"):
        script.main([*FLAGS, str(tmp_path / "out"), "--attention", "softmax"])
    assert not (tmp_path / "out").exists()


def test_validation_is_cut_by_class_and_the_extractor_is_fitted_on_what_is_left():
    task = series_task(SeriesDataArguments("JapaneseVowels"), SeriesModelArguments())
    assert task.sizes == {"train": 216, "validation": 54, "test": 370}
    assert np.bincount(task.splits["validation"]["labels"]).tolist() == [6] * 9
    original = {tuple(series[0]) for series in load_uea("JapaneseVowels")["train"]["past_values"]}
    cut = [tuple(row["past_values"][0].tolist()) for name in ("train", "validation") for row in task.splits[name]]
    assert (len(cut), set(cut)) == (270, original)
    steps = np.concatenate([row["past_values"] for row in task.splits["train"]])
    np.testing.assert_allclose(task.processor.mean, steps.mean(0), rtol=1e-6)
    np.testing.assert_allclose(task.processor.std, steps.std(0), rtol=1e-6)

    examples = [task.splits["train"][index] for index in range(4)]
    batch = task.collate(examples)
    lengths = [len(example["past_values"]) for example in examples]
    assert batch["past_values"].shape == (4, max(lengths), 12)
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["labels"].tolist() == [int(example["labels"]) for example in examples]
    measured = task.measuring_batch(60, 40)
    assert set(measured) == {"past_values", "labels"}
    torch.testing.assert_close(measured["past_values"][0], measured["past_values"][54])
    first = task.collate([task.splits["validation"][0]])["past_values"][0]
    torch.testing.assert_close(measured["past_values"][0, : 2 * len(first)], first.repeat(2, 1)[:40])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99])
def test_a_validation_share_that_leaves_a_class_out_is_refused(share):
    with pytest.raises(ValueError, match=f"`validation_share` = {share} must leave at least one of the 40 examples"):
        cut_validation(load_uea("BasicMotions"), share)
