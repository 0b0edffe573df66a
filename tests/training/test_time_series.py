"""Series as a task, on real data, of the archive or in files; the script that trains on them is in test_run.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification, EvalPrediction

from hf_primaldual.commands.train import train_series
from hf_primaldual.data import cut_series, load_uea, read_series, series_arrays, vote
from hf_primaldual.training.series_sources import SeriesDataArguments, series_source
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.time_series import SeriesModelArguments, SeriesTrainingArguments, series_task
from hf_primaldual.training.trainer import build_trainer


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
    assert batch["attention_mask"].sum(1).tolist() == [len(example["past_values"]) for example in examples]
    assert batch["labels"].tolist() == [int(example["labels"]) for example in examples]
    measured = task.measuring_batch(60, 40)
    assert set(measured) == {"past_values", "labels"}
    torch.testing.assert_close(measured["past_values"][0], measured["past_values"][54])
    first = task.collate([task.splits["validation"][0]])["past_values"][0]
    torch.testing.assert_close(measured["past_values"][0, : 2 * len(first)], first.repeat(2, 1)[:40])


SHORT = "--attention bn --seeds 0 --num_train_epochs 3 --hidden_size 16 --intermediate_size 16 --num_hidden_layers 1"
SHORT += " --disable_tqdm true --efficiency_tokens 8 --threads 1"


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Flags that name files of real series, 40 to train on and 40 to test, of 100 steps, in groups."""
    flags = []
    for name, split in load_uea("BasicMotions").items():
        file = tmp_path / "motions" / f"{name}.npz"
        file.parent.mkdir(exist_ok=True)
        classes, groups = (
            split.features["labels"].int2str(split["labels"]),
            np.tile([f"{name}-{number}" for number in range(5)], 8),
        )
        np.savez(file, X=np.array(split["past_values"]), y=classes, groups=groups)
        flags += [f"--{name}_file", str(file)]
    return flags


def test_windows_vote_on_their_series_and_a_run_goes_on_with_the_same_data_alone(files, tmp_path):
    flags = [*files, "--window", "40", "--stride", "30", *SHORT.split(), "--output_dir", str(tmp_path / "out")]
    folder = train_series(flags)
    results = json.loads((folder / "results.json").read_text())
    data, settings = results["dataset"], results["settings"]
    assert (data["name"], data["train"], data["validation"], data["test"]) == ("motions", 32, 8, 40)
    assert settings["groups"] == "train 4, validation 1, test 5"
    assert "Accuracies are those of whole series, the mean of their windows" in (folder / "README.md").read_text()
    assert settings["windows"] == "train 96, validation 24, test 120, which vote on their series"

    model, extractor = AutoModelForSequenceClassification.from_pretrained(folder), AutoFeatureExtractor
    test = read_series(files[3])
    windows = cut_series(test, window=40, stride=30)
    with torch.inference_mode():
        inputs = extractor.from_pretrained(folder)(series_arrays(windows), return_tensors="pt")
        recordings, scores = vote(windows["recording"], model(**inputs).logits.softmax(-1))
    right = [model.config.id2label[place] for place in scores.argmax(-1)] == np.array(test["labels"])[recordings]
    (released,) = (run for run in results["runs"] if run["released"])
    assert released["test_accuracy"] == right.mean()

    resumed = [*flags, "--resume_from_checkpoint", "true"]
    assert train_series(resumed) == folder
    with pytest.raises(ValueError, match="begun with other settings of stride"):
        train_series([*resumed, "--stride", "20"])
    shutil.copy(files[1], files[3])
    with pytest.raises(ValueError, match="begun with other settings of sha256"):
        train_series(resumed)


def test_classes_count_alike_in_training_and_in_what_chooses_the_epoch(tmp_path):
    motions = load_uea("BasicMotions")["train"]
    rows = [row for row, label in enumerate(motions["labels"]) if label < 2][:15]
    for name in ("train", "test"):
        np.savez(
            tmp_path / f"{name}.npz", X=np.array(motions["past_values"])[rows], y=np.array(motions["labels"])[rows]
        )
    flags = [f"--{name}_file={tmp_path / name}.npz" for name in ("train", "validation", "test")]
    (tmp_path / "validation.npz").symlink_to(tmp_path / "train.npz")
    (data_args,) = parse_arguments(SeriesDataArguments, argv=[*flags, "--class_weights", "balanced"])
    task = series_task(data_args, SeriesModelArguments())
    # 10 and 5 examples.
    np.testing.assert_allclose(task.class_weight, [0.75, 1.5])
    assert task.settings["class_weights"] == "balanced"
    logits, labels = torch.randn(15, 2), torch.tensor(task.splits["train"]["labels"][:])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = (losses[labels == 0].mean() + losses[labels == 1].mean()) / 2
    outputs = type("Outputs", (), {"logits": logits})
    torch.testing.assert_close(task.compute_loss(outputs, labels), expected)
    torch.testing.assert_close(task.compute_loss(outputs, labels, num_items_in_batch=torch.tensor(30)), expected / 2)
    args = SeriesTrainingArguments(str(tmp_path / "out"), report_to="none")
    trainer = build_trainer(task, task.config("bn"), args, 0, tmp_path / "out")
    validation = trainer.compute_metrics(EvalPrediction(logits.numpy(), labels.numpy()))
    assert validation["loss"] == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("motions/train.csv", "motions"),
        ("heart beats_TRAIN.ts", "heart-beats"),
        ("trains-2024.parquet", "trains-2024"),
    ],
)
def test_data_are_called_as_their_file_or_its_folder(file, name, tmp_path, monkeypatch):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    monkeypatch.chdir(path.parent)
    for train_file in (path, path.name):
        _, source = series_source(SeriesDataArguments(train_file=str(train_file), test_share=0.2))
        assert source["name"] == name
    _, source = series_source(SeriesDataArguments(train_file=str(path), test_share=0.2, name="mine"))
    assert source["name"] == "mine"


FILE = {"train_file": "x.csv"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**FILE, "dataset": "BasicMotions"}, "one of `dataset` and `train_file`"),
        ({"test_file": "x.csv"}, "`test_file` goes with `train_file`"),
        ({**FILE, "revision": "main"}, "`revision` goes with `dataset`"),
        ({"revision": "main"}, "`revision` goes with a data set of the Hub"),
        ({**FILE, "test_file": "x.csv", "test_share": 0.2}, r"`test_share` cuts .* x\.csv has one"),
        ({"test_share": 0.2}, "`test_share` cuts .* JapaneseVowels has one"),
        (FILE, r"x\.csv has the splits train, but no test; cut one out .*`test_share`"),
        ({"name": "a b"}, "`name` must be of letters.*got 'a b'"),
        ({"too_long": "cut"}, "`too_long` = 'cut' needs `max_steps_per_series`"),
        ({"too_long": "drop"}, "`too_long` must be refuse, cut or window, got 'drop'"),
        ({"class_weights": "equal"}, "`class_weights` must be balanced"),
        ({"window": 8, "stride": 9}, "`stride` must be at most the window"),
        ({"rows_are": "rows"}, "`rows_are` must be steps or series"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused_before_anything_is(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.csv").touch()
    with pytest.raises(ValueError, match=message):
        series_source(SeriesDataArguments(**settings))


def test_a_folder_of_the_hubs_layout_is_a_data_set(tmp_path):
    load_uea("BasicMotions")["train"].to_parquet(tmp_path / "motions" / "data" / "train.parquet")
    data_args = SeriesDataArguments(
        str(tmp_path / "motions"), test_share=0.25, max_steps_per_series=60, too_long="cut"
    )
    task = series_task(data_args, SeriesModelArguments())
    assert (task.source["name"], list(task.source["sha256"])) == ("motions", ["data/train.parquet"])
    assert (task.sizes, task.lengths) == ({"train": 22, "validation": 8, "test": 10}, (60, 60))
