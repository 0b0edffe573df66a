"""What a run loses when it is killed, or when the disk is full: nothing."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_primaldual.training.runs import last_checkpoint

from .accident import compare, have_accident

ROOT = Path(__file__).parents[2]
# 32 training series in batches of 8: 4 steps an epoch, 12 a run, 2 runs, a checkpoint after each epoch.
FLAGS = ["--dataset", "BasicMotions", "--attention", "bn+sh", "--seeds", "3", "--num_train_epochs", "3"]
FLAGS += ["--per_device_train_batch_size", "8", "--hidden_size", "16", "--intermediate_size", "16"]
FLAGS += ["--num_hidden_layers", "1", "--ema_decay", "0.5", "--bn_beta_learnable", "true", "--disable_tqdm", "true"]
FLAGS += ["--efficiency_tokens", "100", "--threads", "1"]
KILLED = -9


def run(kind, count, output, *more):
    log = output.with_name("log")
    code = have_accident(kind, count, [*FLAGS, "--output_dir", str(output), *more], log)
    assert code == (0 if kind == "none" else KILLED), log.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run("none", 0, output)
    return output


def outcome(output):
    """The weights of the released checkpoint, and every figure of every run but how long it took."""
    (folder,) = output.glob("primal-dual-*")
    runs = json.loads((folder / "results.json").read_text())["runs"]
    for one in runs:
        del one["train_seconds"]
    return (folder / "model.safetensors").read_bytes(), runs


# In the second run, after its first checkpoint; at the end of an epoch; when a run is about to be written down.
@pytest.mark.parametrize(
    "accidents",
    [
        {"kill": 18, "save": 1},
        *(pytest.param(x, marks=pytest.mark.slow) for x in ({"kill": 4, "save": 1}, {"record": 2})),
    ],
    ids=str,
)
def test_a_run_that_was_killed_ends_as_if_nothing_had_happened(whole, tmp_path, accidents):
    output = tmp_path / "out"
    for kind, count in accidents.items():
        run(kind, count, output, "--resume_from_checkpoint")
    (running,) = [path for path in (output / "runs").iterdir() if not (path / "run.json").exists()]
    *_, last = sorted(running.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert (last / "trainer_state.json").exists()
    assert (last_checkpoint(running) == last) == ("save" not in accidents)
    run("none", 0, output, "--resume_from_checkpoint", "--results_dir", str(tmp_path / "kept"))
    assert outcome(output) == outcome(whole)
    (folder,) = output.glob("primal-dual-*")
    for name, copied in (("results.json", "basicmotions.json"), ("learning_curves.png", "basicmotions.png")):
        assert (tmp_path / "kept" / copied).read_bytes() == (folder / name).read_bytes()


def test_a_resumed_run_must_have_the_settings_it_was_begun_with(whole, tmp_path):
    output = shutil.copytree(whole, tmp_path / "out")
    with pytest.raises(ValueError, match="begun with other settings of learning_rate"):
        compare([*FLAGS, "--output_dir", str(output), "--resume_from_checkpoint", "--learning_rate", "0.5"])
    with pytest.raises(FileExistsError, match=r"--resume_from_checkpoint.*--overwrite"):
        compare([*FLAGS, "--output_dir", str(output)])


@pytest.mark.slow
def test_a_full_disk_is_named_and_what_was_there_is_kept(whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of its own, in name spaces that end with the process: no rights are needed, and nothing is left.
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=64m tmpfs {shlex.quote(str(disk))}"
    if not shutil.which("unshare") or subprocess.run([*mounted, mount]).returncode:
        pytest.skip("this machine gives no file system of one's own")
    full, keep = disk / "out", tmp_path / "kept"
    saved = f"rm -f {shlex.quote(str(full / 'filler'))}; cp -r {shlex.quote(str(full))} {shlex.quote(str(keep))}"
    program = [sys.executable, "-m", "tests.training.accident", "full", "5", *FLAGS, "--output_dir", str(full)]
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
    assert outcome(keep) == outcome(whole)
