"""Two gloo processes train, evaluate and share data as one process would, and end together."""

import json
import os
import time

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hf_primaldual.hub.results import load_results
from hf_primaldual.training.arguments import ComparisonArguments
from hf_primaldual.training.runs import last_checkpoint
from tests.training.accident import compare

from .jobs import BATCH_OF_ONE, CASES, load_task, make_model, make_trainer, train_and_record, two_processes

EXACT = {"rtol": 0, "atol": 1e-5}

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def task():
    return load_task()


@pytest.fixture(scope="module")
def folder(task, tmp_path_factory):
    """Where the two processes leave what they found, with the models that they start from."""
    folder = tmp_path_factory.mktemp("scale")
    for name, fields in CASES.items():
        make_model(task, fields).save_pretrained(folder / "start" / name)
    return folder


@pytest.fixture(scope="module")
def ended(folder):
    """The end of two processes that compared, and of which one then could not save."""
    return two_processes("-m", "tests.scale.worker", folder, "compare", "fail_saving"), time.time()


@pytest.fixture(scope="module")
def two(ended, folder):
    """What each of two processes found."""
    assert (folder / "compare-1.pt").exists(), ended[0].stderr
    return [torch.load(folder / f"compare-{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_weights_are_those_of_one_process(case, wrapper, two, task, tmp_path):
    model = make_model(task, CASES[case])
    _, one = train_and_record(task, model, tmp_path, BATCH_OF_ONE, unlabelled=case == "unlabelled")
    for found in (found[wrapper][case] for found in two):
        assert found["losses"] == pytest.approx(one["losses"], rel=0, abs=1e-5)
        assert found["norms"] == pytest.approx(one["norms"], rel=1e-5)
        assert_close(found["gradients"], one["gradients"], **EXACT)
        assert_close(found["weights"], one["weights"], **EXACT)
    # It was the same batch, half of it for each, and there was something to agree on.
    halves = zip(*(found[wrapper][case]["seen"] for found in two), strict=True)
    assert [first + second for first, second in halves] == one["seen"]
    assert min(one["norms"]) > 1e-2


def test_a_sharded_model_is_halved_and_its_checkpoint_is_whole(two, folder, task, tmp_path):
    assert two[0]["wrapper"] == "DistributedDataParallel"
    sizes = {name: parameter.numel() for name, parameter in make_model(task, CASES["unlabelled"]).named_parameters()}
    assert {name: sum(found["shares"][name] for found in two) for name in sizes} == sizes
    assert sum(two[0]["shares"].values()) < 0.55 * sum(sizes.values())

    saved = folder / "saved-by-fsdp2"
    model = task.model_class.from_pretrained(saved)
    logits = make_trainer(task, model, tmp_path, BATCH_OF_ONE).predict(task.splits["test"]).predictions
    np.testing.assert_allclose(two[0]["fsdp2 logits"], logits, **EXACT)
    model.save_pretrained(tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} <= {path.name for path in saved.iterdir()}
    configs = [json.loads((path / "config.json").read_text()) for path in (saved, tmp_path / "again")]
    assert configs[0]["auto_map"] == configs[1]["auto_map"]
    assert configs[0]["architectures"] == configs[1]["architectures"] == [type(model).__name__]


def test_an_evaluation_counts_every_series_once(two, task, tmp_path):
    one = make_trainer(task, make_model(task, CASES["learned beta"]), tmp_path, 14).predict(task.splits["test"])
    for found in (found["evaluation"] for found in two):
        assert found["logits"].shape == (370, 9)
        np.testing.assert_allclose(found["logits"], one.predictions, **EXACT)
        np.testing.assert_array_equal(found["labels"], task.splits["test"]["labels"])
        assert found["test_accuracy"] == one.metrics["test_accuracy"]
        assert found["test_loss"] == pytest.approx(one.metrics["test_loss"], abs=1e-5)


def test_each_series_of_an_epoch_is_seen_by_one_process(two):
    streamed = [np.concatenate(found["stream"]).tolist() for found in two]
    assert sorted(streamed[0] + streamed[1]) == list(range(216))
    # The last batch of an epoch is filled up from its first.
    steps = [first + second for first, second in zip(*(found["epoch"] for found in two), strict=True)]
    seen = np.concatenate(steps).tolist()
    assert sorted(seen[:216]) == list(range(216))
    assert seen[216:] == steps[0][:8]


def assert_ended_together(ended, at, folder, *said):
    # Long before the time-out of half an hour, or the 600 seconds of a process that hangs.
    assert at - float((folder / "failed-at").read_text()) < 300
    assert ended.returncode != 0
    assert [text for text in said if text not in ended.stderr] == []


def test_row_35_a_save_that_fails_in_one_process_ends_all_at_once_and_keeps_the_last_checkpoint(ended, folder):
    said = "the disk is full: checkpoint checkpoint-2 could not be written by process 1"
    assert_ended_together(*ended, folder, "rank      : 1", said)
    assert (folder / "counted").read_text() == "False"
    assert last_checkpoint(folder / "run").name == "checkpoint-1"


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_other_after_the_time_out(tmp_path):
    ended = two_processes("-m", "tests.scale.worker", tmp_path, "hang")
    assert_ended_together(ended, time.time(), tmp_path, "imed out")


@pytest.mark.slow
def test_the_script_writes_once_and_finds_what_one_process_finds(tmp_path):
    flags = ["--seeds", "0", "--num_train_epochs", "1", "--efficiency_tokens", "29", "--report_to", "none"]
    flags += ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--threads", "1"]
    flags += ["--norm_type", "layer", "--dropout", "0", "--disable_tqdm", "true"]
    script, batch = "scripts/run_time_series_classification.py", "--per_device_train_batch_size"
    ended = two_processes(script, *flags, batch, "6", "--output_dir", tmp_path / "two")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("results:") == ended.stdout.count("training softmax") == 1

    folder = compare([*flags, "--use_cpu", "true", batch, "12", "--output_dir", str(tmp_path / "one")])
    assert sorted(os.listdir(tmp_path / "two")) == sorted(os.listdir(tmp_path / "one"))
    one, two = (load_results(parent / folder.name / "results.json") for parent in (tmp_path / "one", tmp_path / "two"))
    assert (one["settings"].pop("processes"), two["settings"].pop("processes")) == (1, 2)
    assert one["settings"] == two["settings"]
    for alone, together in zip(one["runs"], two["runs"], strict=True):
        for run in (alone, together):
            del run["train_seconds"]
        # Adam makes whole steps of the rounding of gradients near zero: 3 of the 370 series may change sides.
        assert together == pytest.approx(alone, abs=0.01)


def test_what_would_not_be_trained_together_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`fsdp` needs GPUs"):
        ComparisonArguments(str(tmp_path), use_cpu=True, fsdp=True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="each of the 2 processes would train alone"):
        ComparisonArguments(str(tmp_path))
