"""The time-series script from flags to a checkpoint that loads, on real data."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification, Trainer

from hf_primaldual.data import load_uea
from hf_primaldual.data.splits import cut_validation
from hf_primaldual.training.arguments import SeriesDataArguments, SeriesModelArguments
from hf_primaldual.training.time_series import SeriesCollator, series_task

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_time_series_classification.py"
QUICK = ["--dataset", "BasicMotions", "--seeds", "0", "1", "--num_train_epochs", "2", "--efficiency_tokens", "128"]
SMALL = ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_time_series_classification", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(script, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    return script.main([*QUICK, *SMALL, "--threads", "1", "--output_dir", str(output)])


def test_the_folder_is_self_contained_and_nothing_else_is_left(finished):
    files = set(os.listdir(finished))
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "results.json"} <= files
    assert {"modeling_primal_dual_time_series.py", "pipeline_primal_dual.py"} <= files
    assert {"learning_curves.png", "README.md"} <= files
    assert [path.name for path in finished.parent.iterdir() if path != finished] == ["settings.json"]


def test_a_finished_comparison_is_not_trained_again(finished, script, capsys):
    before = (finished / "results.json").read_bytes()
    again = ["--output_dir", str(finished.parent), "--resume_from_checkpoint"]
    assert script.main([*QUICK, *SMALL, "--threads", "1", *again]) == finished
    assert "nothing is left to do" in capsys.readouterr().out
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


def test_the_card_is_valid_and_names_the_run(finished):
    card = ModelCard.load(finished / "README.md")
    assert card.data.library_name == "transformers"
    assert "--dataset BasicMotions" in card.content


def test_equal_seeds_give_equal_runs(finished, script, tmp_path):
    again = script.main([*QUICK, *SMALL, "--threads", "1", "--output_dir", str(tmp_path / "again")])
    first, second = (json.loads((folder / "results.json").read_text())["runs"] for folder in (finished, again))
    for run in (*first, *second):
        del run["train_seconds"]
    assert first == second
    assert (finished / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_a_second_run_into_the_same_folder_is_refused(finished, script):
    before = (finished / "results.json").read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        script.main([*QUICK, *SMALL, "--output_dir", str(finished.parent)])
    assert (finished / "results.json").read_bytes() == before


def test_an_impossible_setting_stops_before_training_and_leaves_no_folder(script, tmp_path):
    with pytest.raises(StrictDataclassClassValidationError, match="head_scales"):
        script.main([*QUICK, *SMALL, "--head_scales", "1", "2", "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_attention_and_baseline_must_differ(script, tmp_path):
    with pytest.raises(ValueError, match="must differ"):
        script.main([*QUICK, "--attention", "softmax", "--output_dir", str(tmp_path / "out")])


def test_the_test_set_is_read_once_a_run_and_after_training(script, tmp_path, monkeypatch):
    evaluated = []
    evaluate = Trainer.evaluate

    def watch(self, eval_dataset=None, *args, **kwargs):
        evaluated.append(len(self.eval_dataset if eval_dataset is None else eval_dataset))
        return evaluate(self, eval_dataset, *args, **kwargs)

    monkeypatch.setattr(Trainer, "evaluate", watch)
    flags = [*QUICK, *SMALL, "--seeds", "0", "--validation_share", "0.3", "--output_dir", str(tmp_path / "out")]
    script.main(flags)
    # Two epochs and the best one on 12 validation series, then once on the 40 test series; for two attentions.
    assert evaluated == [12, 12, 12, 40] * 2


@pytest.fixture(scope="module")
def vowels():
    return series_task(SeriesDataArguments("JapaneseVowels"), SeriesModelArguments())


def test_validation_is_cut_by_class_and_from_the_training_set(vowels):
    assert {name: len(split) for name, split in vowels.splits.items()} == {"train": 216, "validation": 54, "test": 370}
    assert np.bincount(vowels.splits["validation"]["labels"]).tolist() == [6] * 9
    original = {tuple(series[0]) for series in load_uea("JapaneseVowels")["train"]["past_values"]}
    both = [
        tuple(np.float32(row["past_values"][0]).tolist())
        for name in ("train", "validation")
        for row in vowels.splits[name]
    ]
    assert len(both) == 270
    assert {tuple(np.float32(step)) for step in both} == {tuple(np.float32(step)) for step in original}


def test_the_feature_extractor_is_fitted_on_the_training_part_alone(vowels):
    steps = np.concatenate([np.asarray(row["past_values"], np.float64) for row in vowels.splits["train"]])
    np.testing.assert_allclose(vowels.processor.mean, steps.mean(0), rtol=1e-6)
    np.testing.assert_allclose(vowels.processor.std, steps.std(0), rtol=1e-6)


def test_the_collator_pads_to_the_longest_of_its_batch(vowels):
    examples = [vowels.splits["train"][index] for index in range(4)]
    batch = SeriesCollator(vowels.processor)(examples)
    lengths = [len(example["past_values"]) for example in examples]
    assert batch["past_values"].shape == (4, max(lengths), 12)
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["labels"].tolist() == [int(example["labels"]) for example in examples]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99])
def test_a_validation_share_that_leaves_a_class_out_is_refused(share):
    with pytest.raises(ValueError, match="validation_share"):
        cut_validation(load_uea("BasicMotions"), share)
