import importlib
import json
import platform
import re
import socket
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

import hf_primaldual
from hf_primaldual.measure import environment

# The package's attribute of that name is the function.
module = importlib.import_module("hf_primaldual.measure.environment")


@pytest.fixture
def source_file(tmp_path, monkeypatch):
    """A copy of the module's place in a folder of its own, for git to look at."""
    file = tmp_path / "environment.py"
    file.write_text("x = 1\n")
    monkeypatch.setattr(module, "__file__", str(file))
    return file


def git(folder, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_it_holds_what_a_card_needs():
    found = environment()
    hardware, versions = found["hardware"], found["versions"]
    assert platform.machine() in hardware["processor"]
    assert hardware["cores"] >= 1
    assert hardware["threads"] == torch.get_num_threads()
    assert hardware["memory_gib"] is None or hardware["memory_gib"] > 0
    assert (hardware["accelerator"] is None) == (not torch.cuda.is_available())
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == metadata.version("torch")
    assert versions["hf_primaldual"] == hf_primaldual.__version__
    assert {"transformers", "accelerate", "datasets", "evaluate", "numpy", "revision"} <= set(versions)


def test_it_tells_nothing_about_whose_machine_it_is(monkeypatch):
    # Names that can't be part of a processor's.
    monkeypatch.setattr(platform, "node", lambda: "machine-of-jane")
    monkeypatch.setattr(socket, "gethostname", platform.node)
    for name in ("HOME", "USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "/home/jane")
    text = json.dumps(environment(), allow_nan=False)
    assert "jane" not in text
    assert str(Path(hf_primaldual.__file__).parent) not in text


def test_a_missing_package_is_null(monkeypatch):
    monkeypatch.setattr(module, "_PACKAGES", ("torch", "no-such-package-here"))
    assert environment()["versions"]["no-such-package-here"] is None


def test_the_revision_of_a_checkout(source_file):
    git(source_file.parent, "init", "-q")
    git(source_file.parent, "add", source_file.name)
    git(source_file.parent, "commit", "-q", "-m", "first")
    git(source_file.parent, "tag", "-a", "v9", "-m", "a tag must not replace the commit")
    commit = git(source_file.parent, "rev-parse", "HEAD")
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert environment()["versions"]["revision"] == commit
    source_file.write_text("x = 2\n")
    assert environment()["versions"]["revision"] == commit + "-dirty"


def test_results_of_earlier_runs_are_no_change_of_the_code(source_file):
    folder = source_file.parent
    git(folder, "init", "-q")
    (folder / "results").mkdir()
    (folder / "results" / "one.json").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "results" / "one.json").write_text("2")
    assert environment()["versions"]["revision"] == git(folder, "rev-parse", "HEAD")


def test_a_copy_inside_somebody_elses_checkout_has_no_revision(source_file):
    git(source_file.parent, "init", "-q")
    other = source_file.parent / "other.py"
    other.write_text("")
    git(source_file.parent, "add", other.name)
    git(source_file.parent, "commit", "-q", "-m", "without the package")
    assert environment()["versions"]["revision"] is None


def test_no_checkout_and_no_git_have_no_revision(source_file, monkeypatch):
    assert environment()["versions"]["revision"] is None
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert environment()["versions"]["revision"] is None
