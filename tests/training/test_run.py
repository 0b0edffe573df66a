"""A run of a script from flags to a checkpoint that loads, and what it loses when it is killed: nothing."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification, Trainer

from hf_primaldual.data import load_uea
from hf_primaldual.training.runs import last_checkpoint

from .accident import compare, have_accident

ROOT = Path(__file__).parents[2]
# 32 training series in batches of 8 are 4 steps an epoch, after which there is a checkpoint: softmax has one epoch,
# bn+sh two, with each of two seeds.
FLAGS = ["--dataset", "BasicMotions", "--attention", "bn+sh", "--seeds", "3", "4", "--num_train_epochs", "2"]
FLAGS += ["--per_device_train_batch_size", "8", "--hidden_size", "16", "--intermediate_size", "16"]
FLAGS += ["--num_hidden_layers", "1", "--ema_decay", "0.5", "--bn_beta_learnable", "true", "--disable_tqdm", "true"]
FLAGS += ["--efficiency_tokens", "128", "--threads", "1", "--per_attention", '{"softmax": {"num_train_epochs": 1}}']
RUNS = [("softmax", 3, 1), ("bn+sh", 3, 2), ("softmax", 4, 1), ("bn+sh", 4, 2)]
EVALUATED = []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of a run that nothing happened to, and that a tracker watched."""
    folder, evaluate = tmp_path_factory.mktemp("whole"), Trainer.evaluate

    def watch(self, eval_dataset=None, *args, **kwargs):
        EVALUATED.append(len(self.eval_dataset if eval_dataset is None else eval_dataset))
        return evaluate(self, eval_dataset, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "evaluate", watch)
        return compare([*FLAGS, "--report_to", "tensorboard", "--output_dir", str(folder / "out")])


def test_the_folder_holds_every_run_and_the_weights_of_the_released_one(finished):
    assert set(os.listdir(finished.parent)) == {finished.name, "settings.json", "logs"}
    results = json.loads((finished / "results.json").read_text())
    runs = [(run["attention"], run["seed"], run["epochs"]) for run in results["runs"]]
    assert runs == sorted(RUNS, key=lambda run: run[0] != "softmax")
    assert [point["tokens"] for point in results["efficiency"]] == [100, 128]
    (released,) = (run for run in results["runs"] if run["released"])
    model = AutoModelForSequenceClassification.from_pretrained(finished)
    feature_extractor = AutoFeatureExtractor.from_pretrained(finished)
    test = load_uea("BasicMotions")["test"].with_format("numpy")
    with torch.inference_mode():
        logits = model(**feature_extractor(list(test["past_values"]), return_tensors="pt")).logits
    accuracy = (logits.argmax(-1).numpy() == np.asarray(test["labels"])).mean()
    assert accuracy == pytest.approx(released["test_accuracy"])
    assert [model.config.id2label[index] for index in range(4)] == test.features["labels"].names


def test_the_test_set_is_read_once_in_each_run(finished):
    # Each epoch and the best one on 8 validation series, then once on the 40 test series.
    assert [size for *_, epochs in RUNS for size in [8] * (epochs + 1) + [40]] == EVALUATED


def test_each_run_is_logged_under_its_name_and_outlives_the_checkpoints(finished):
    logs = finished.parent / "logs"
    assert set(os.listdir(logs)) == {f"{name}-{seed}" for name, seed, _ in RUNS}
    for name, seed, epochs in RUNS:
        events = EventAccumulator(str(logs / f"{name}-{seed}")).Reload()
        for scalar in ("eval/loss", "train/loss"):
            assert [event.step for event in events.Scalars(scalar)] == [4, 8][:epochs]


def test_a_folder_that_holds_a_run_is_not_trained_into(finished, tmp_path, capsys):
    before = (finished / "results.json").read_bytes()
    flags = [*FLAGS, "--output_dir", str(finished.parent)]
    assert compare([*flags, "--resume_from_checkpoint"]) == finished
    assert "nothing is left to do" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match=r"--resume_from_checkpoint.*--overwrite"):
        compare(flags)
    with pytest.raises(ValueError, match="begun with other settings of learning_rate"):
        compare([*flags, "--resume_from_checkpoint", "--learning_rate", "0.5"])
    assert (finished / "results.json").read_bytes() == before
    with pytest.raises(StrictDataclassClassValidationError, match="head_scales"):
        compare([*FLAGS, "--output_dir", str(tmp_path / "out"), "--head_scales", "1", "2"])
    assert not (tmp_path / "out").exists()


def run(kind, count, output, *more):
    log = output.with_name("log")
    code = have_accident(kind, count, [*FLAGS, "--output_dir", str(output), *more], log)
    assert code == (0 if kind == "none" else -9), log.read_text()


def outcome(output):
    """The weights of the released checkpoint, and every figure of every run but how long it took."""
    (folder,) = output.glob("primal-dual-*")
    runs = json.loads((folder / "results.json").read_text())["runs"]
    for one in runs:
        del one["train_seconds"]
    return (folder / "model.safetensors").read_bytes(), runs


@pytest.mark.processes
# In the second run, after its first checkpoint; at the end of an epoch; when a run is about to be written down.
@pytest.mark.parametrize(
    "accidents",
    [
        {"kill": 10, "save": 1},
        *(pytest.param(x, marks=pytest.mark.slow) for x in ({"kill": 8, "save": 1}, {"record": 2})),
    ],
    ids=str,
)
def test_a_run_that_was_killed_ends_as_if_nothing_had_happened(finished, tmp_path, accidents):
    output = tmp_path / "out"
    for kind, count in accidents.items():
        run(kind, count, output, "--resume_from_checkpoint")
    (running,) = [path for path in (output / "runs").iterdir() if not (path / "run.json").exists()]
    *_, last = sorted(running.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert (last / "trainer_state.json").exists()
    assert (last_checkpoint(running) == last) == ("save" not in accidents)
    flags = ["--output_dir", str(output), "--resume_from_checkpoint", "--results_dir", str(tmp_path / "kept")]
    compare([*FLAGS, *flags])
    assert outcome(output) == outcome(finished.parent)
    (folder,) = output.glob("primal-dual-*")
    for name, copied in (("results.json", "basicmotions.json"), ("learning_curves.png", "basicmotions.png")):
        assert (tmp_path / "kept" / copied).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_named_and_what_was_there_is_kept(finished, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of its own, in name spaces that end with the process: no rights are needed, and nothing is left.
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=64m tmpfs {shlex.quote(str(disk))}"
    if not shutil.which("unshare") or subprocess.run([*mounted, mount]).returncode:
        pytest.skip("this machine gives no file system of one's own")
    full, keep = disk / "out", tmp_path / "kept"
    saved = f"rm -f {shlex.quote(str(full / 'filler'))}; cp -r {shlex.quote(str(full))} {shlex.quote(str(keep))}"
    program = [sys.executable, "-m", "tests.training.accident", "full", "3", *FLAGS, "--output_dir", str(full)]
    stopped = subprocess.run(
        [*mounted, f'{mount}; "$@"; status=$?; {saved}; exit $status', "sh", *program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert stopped.returncode == 1
    assert "the disk is full: checkpoint checkpoint-8 could not be written" in stopped.stderr
    assert "--resume_from_checkpoint" in stopped.stderr
    # The first run had ended, the second had its first checkpoint.
    assert (keep / "runs" / "softmax-3" / "run.json").exists()
    assert [path.name for path in (keep / "runs" / "bn+sh-3").glob("checkpoint-*")] == ["checkpoint-4"]
    run("none", 0, keep, "--resume_from_checkpoint")
    assert outcome(keep) == outcome(finished.parent)
