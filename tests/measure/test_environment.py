"""What a results file says of the machine, and of nobody."""

import importlib
import json
import platform
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
def checkout(tmp_path, monkeypatch):
    """A git repository with the module's file in it, and results."""
    (tmp_path / "results").mkdir()
    for name in ("environment.py", "other.py", "results/one.json"):
        (tmp_path / name).write_text("1\n")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "environment.py"))
    git(tmp_path, "init", "-q")
    return tmp_path


def git(folder, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    command = ["git", "-C", folder, *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_it_holds_what_a_card_needs_and_tells_nothing_about_whose_machine_it_is(monkeypatch):
    # Names that can't be part of a processor's.
    monkeypatch.setattr(platform, "node", lambda: "machine-of-jane")
    monkeypatch.setattr(socket, "gethostname", platform.node)
    for name in ("HOME", "USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "/home/jane")
    monkeypatch.setattr(module, "_PACKAGES", ("torch", "no-such-package-here"))
    found = environment()
    text = json.dumps(found, allow_nan=False)
    assert "jane" not in text
    assert str(Path(hf_primaldual.__file__).parent) not in text
    hardware, versions = found["hardware"], found["versions"]
    assert platform.machine() in hardware["processor"]
    assert hardware["cores"] >= 1
    assert hardware["threads"] == torch.get_num_threads()
    assert hardware["memory_gib"] is None or hardware["memory_gib"] > 0
    assert (hardware["accelerator"] is None) == (not torch.cuda.is_available())
    assert versions["torch"] == metadata.version("torch")
    assert versions["hf_primaldual"] == hf_primaldual.__version__
    assert versions["no-such-package-here"] is None


def test_the_revision_is_the_commit_and_what_programs_write_is_no_change_of_it(checkout, monkeypatch):
    def revision():
        return environment()["versions"]["revision"]

    # A copy inside of somebody else's checkout has none.
    git(checkout, "add", "other.py")
    git(checkout, "commit", "-q", "-m", "without the package")
    assert revision() is None
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "with it")
    git(checkout, "tag", "-a", "v9", "-m", "a tag must not replace the commit")
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "results" / "one.json").write_text("2")
    assert revision() == commit
    (checkout / "other.py").write_text("x = 2\n")
    assert revision() == commit + "-dirty"
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert revision() is None
