"""What a run loses when it is killed, or when the disk is full: nothing."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_primaldual.training.arguments import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    parse_arguments,
)
from hf_primaldual.training.checkpoints import last_whole_checkpoint
from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.time_series import series_task

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "run_time_series_classification.py"
ACCIDENT = Path(__file__).with_name("accident.py")
# 32 training series in batches of 8: 4 steps an epoch, 12 a run, 2 runs, a checkpoint after each epoch.
FLAGS = ["--dataset", "BasicMotions", "--attention", "bn+sh", "--seeds", "3", "--num_train_epochs", "3"]
FLAGS += ["--per_device_train_batch_size", "8", "--hidden_size", "16", "--intermediate_size", "16"]
FLAGS += ["--num_hidden_layers", "1", "--ema_decay", "0.5", "--bn_beta_learnable", "true", "--disable_tqdm", "true"]
FLAGS += ["--efficiency_tokens", "100", "--threads", "1"]
RUNS = 24


def quote(path: Path) -> str:
    return shlex.quote(str(path))


def run(kind, count, output, *more, prefix=()):
    command = [*prefix, sys.executable, str(ACCIDENT), kind, str(count), str(SCRIPT), *FLAGS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "--output_dir", str(output), *more], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    output = tmp_path_factory.mktemp("whole") / "out"
    finished = run("none", 0, output)
    assert finished.returncode == 0, finished.stderr
    return output


def outcome(output):
    """The weights of the released checkpoint, and every figure of every run but how long it took."""
    (folder,) = output.glob("primal-dual-*")
    runs = json.loads((folder / "results.json").read_text())["runs"]
    for one in runs:
        del one["train_seconds"]
    return (folder / "model.safetensors").read_bytes(), runs


# In the second run, after its first checkpoint; with the slow tests at the ends of runs and of epochs.
@pytest.mark.parametrize("step", [18, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 4, 12, 13, RUNS))])
def test_a_run_killed_in_a_step_and_again_in_a_save_ends_as_if_nothing_had_happened(whole, tmp_path, step):
    output = tmp_path / "out"
    killed = run("kill", step, output)
    assert killed.returncode == -9, killed.stderr
    killed = run("save", 1, output, "--resume")
    assert killed.returncode == -9 or step > RUNS - 4, killed.stderr
    if killed.returncode == -9:
        (running,) = [path for path in (output / "runs").iterdir() if not (path / "run.json").exists()]
        broken = max(running.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        assert last_whole_checkpoint(running) != broken
        finished = run("none", 0, output, "--resume")
        assert finished.returncode == 0, finished.stderr
    assert outcome(output) == outcome(whole), f"killed at step {step}"


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_is_written_down_and_not_trained_on(whole, tmp_path):
    output = tmp_path / "out"
    killed = run("record", 2, output)
    assert killed.returncode == -9, killed.stderr
    assert not (output / "runs" / "bn+sh-3" / "run.json").exists()
    assert last_whole_checkpoint(output / "runs" / "bn+sh-3").name == "checkpoint-12"
    finished = run("none", 0, output, "--resume", "--results_dir", str(tmp_path / "kept"))
    assert finished.returncode == 0, finished.stderr
    assert outcome(output) == outcome(whole)
    (folder,) = output.glob("primal-dual-*")
    for name, copied in (("results.json", "basicmotions.json"), ("learning_curves.png", "basicmotions.png")):
        assert (tmp_path / "kept" / copied).read_bytes() == (folder / name).read_bytes()


def test_a_resumed_run_must_have_the_settings_it_was_begun_with(whole, tmp_path):
    def again(*flags):
        argv = [*FLAGS, "--output_dir", str(shutil.copytree(whole, tmp_path / "out", dirs_exist_ok=True)), *flags]
        arguments = parse_arguments(SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, argv=argv)
        run_comparison(series_task(*arguments[:2]), *arguments[1:])

    with pytest.raises(ValueError, match="begun with other settings of learning_rate"):
        again("--resume", "--learning_rate", "0.5")
    with pytest.raises(FileExistsError, match=r"--resume.*--overwrite"):
        again()


@pytest.mark.slow
def test_a_full_disk_is_named_and_what_was_there_is_kept(whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of its own, in name spaces that end with the process: no rights are needed, and nothing is left.
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs tmpfs {quote(disk)}"
    allowed = shutil.which("unshare") and not subprocess.run([*mounted, mount]).returncode
    if not allowed:
        pytest.skip("this machine gives no file system of one's own")
    keep = tmp_path / "kept"
    inner = f'mount -t tmpfs -o size=64m tmpfs {quote(disk)}; "$@"; status=$?; '
    inner += f"rm -f {quote(disk / 'out' / 'filler')}; cp -r {quote(disk / 'out')} {quote(keep)}"
    stopped = run("full", 5, disk / "out", prefix=[*mounted, f"{inner}; exit $status", "sh"])
    assert stopped.returncode == 1
    assert "the disk is full: checkpoint checkpoint-8 could not be written" in stopped.stderr
    assert "--resume" in stopped.stderr
    # The first run had ended, the second had its first checkpoint.
    assert (keep / "runs" / "softmax-3" / "run.json").exists()
    assert last_whole_checkpoint(keep / "runs" / "bn+sh-3").name == "checkpoint-4"
    assert not (keep / "runs" / "bn+sh-3" / "checkpoint-8").exists()
    resumed = run("none", 0, keep, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(keep) == outcome(whole)
