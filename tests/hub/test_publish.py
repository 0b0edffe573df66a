"""What is looked at before a checkpoint goes out, and that a training script publishes it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_primaldual.hub.card import write_card
from hf_primaldual.hub.checks import check, check_loading, check_text
from hf_primaldual.hub.collections import add_to_collection
from hf_primaldual.hub.publish import publish
from tests.hub.checkpoints import published, ready_checkpoint
from tests.hub.loopback.client import ROOT
from tests.hub.loopback.server import LoopbackHub


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.manual_seed(0)
    return ready_checkpoint(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of a checkpoint that is fit to be published, the test's own to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_a_dry_run_lists_what_would_go_and_sends_nothing(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    would = publish(folder, "me/model", dry_run=True)
    assert would.commit is None
    assert dict(would.files) == {name: len(content) for name, content in published(folder, "me/model").items()}
    assert "nothing was sent to me/model" in str(would)
    assert "what me/model holds was not looked at" in str(would)
    assert all(name in str(would) for name in before)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_weights_that_are_not_those_recorded_are_found_out(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("classifier.weight") or "classifier" in name)
    weights[name] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"do not give the logits recorded in check\.safetensors"):
        check_loading(folder)


def rename_in_card(folder):
    card = folder / "README.md"
    card.write_text(card.read_text().replace("98.70", "99.99"))


def change_results(folder, **changes):
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, **changes}))
    write_card(folder)


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


# Made here, so that no file of this repository holds one.
TOKEN = "hf_" + "a1B2" * 8
EMAIL = "someone" + "@" + "example.org"
SPOILED = {
    "pickle": (lambda f: (f / "optimizer.pt").write_bytes(b""), r"optimizer\.pt may hold a pickle"),
    "stranger": (lambda f: (f / "notes.txt").write_text(""), r"notes\.txt is no file of a checkpoint"),
    "code": (lambda f: (f / "helper.py").write_text(""), r"helper\.py is no file of a checkpoint"),
    "folder": (lambda f: (f / "runs").mkdir(), "runs is no plain file"),
    "link": (lambda f: (f / "LICENSE").symlink_to(f / "README.md"), "LICENSE is no plain file"),
    "record": (lambda f: (f / "check.safetensors").unlink(), r"lacks check\.safetensors"),
    "import": (lambda f: (f / "kernels_primal_dual.py").unlink(), r"kernels_primal_dual\.py"),
    "plot": (lambda f: (f / "learning_curves.png").unlink(), r"lacks learning_curves\.png"),
    "weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "card": (rename_in_card, r"is not the card of its results\.json"),
    "path": (
        lambda f: change_results(f, command="run --data /home/me/data"),
        "an absolute path in line .*/home/m",
    ),
    "token": (lambda f: change_results(f, command=f"run --token {TOKEN}"), "a token in line"),
    "mail": (lambda f: change_config(f, author=EMAIL), "an e-mail address in line"),
    "license": (lambda f: change_results(f, license=" "), "'license' is empty"),
    "base model": (lambda f: change_config(f, converted_from="bert"), "'base_model' is missing"),
    "annealed base model": (lambda f: change_config(f, annealing_target={"bn_beta": 1}), "'base_model' is missing"),
    "auto_map": (lambda f: change_config(f, auto_map={}), "names no code"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_unfit_is_named(name, folder):
    spoil, message = SPOILED[name]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        check(folder)
    assert TOKEN not in str(caught.value)


def test_arguments_that_contradict_each_other_are_refused_first(folder):
    for arguments, message in [
        ({"repo_id": "model"}, "must be owner/name"),
        ({"repo_id": "me/model", "pull_request": True, "revision": "dev"}, "goes to main"),
        ({"repo_id": "me/model", "pull_request": True, "tag": "v1"}, "which a pull request is not yet"),
    ]:
        with pytest.raises(ValueError, match=message):
            publish(folder, **arguments)


def test_a_collection_that_could_not_be_is_refused_before_anything_is_sent(monkeypatch, capsys):
    for arguments, message in [
        (("A title", []), "`repo_ids` is empty"),
        (("t" * 60, ["me/model"]), "`title` may have 59 characters"),
    ]:
        with pytest.raises(ValueError, match=message):
            add_to_collection(*arguments)
    with pytest.raises(ValueError, match="`description` may have 150 characters"):
        add_to_collection("A title", ["me/model"], description="d" * 151)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from publish import main

    for flags in (["--pull_request"], ["--revision", "dev"]):
        with pytest.raises(SystemExit):
            main(["folder", "me/model", "--collection", "A title", *flags])
        assert "--collection tells what `main` holds" in capsys.readouterr().err
    del sys.modules["publish"]


@pytest.mark.parametrize(
    "text",
    [
        "file:///home/me/x",
        "a:/home/me",
        "C:/Users/me",
        "C:\\Users",
        "(/workspace/x)",
        '"/kaggle/input"',
        "=/dev/shm/x",
    ],
)
def test_a_path_of_a_machine_is_found_in_whatever_form(text):
    with pytest.raises(ValueError, match="an absolute path in line 2"):
        check_text("text", f"first\nthen {text} follows")


def test_a_formula_or_an_address_is_no_private_matter():
    check_text("text", "https://arxiv.org/abs/2406.13781, a/b/c, 1/home, @strict, D:4, q/var(x), [a](b/c.png), x @ y")
    check_text("text", "https://data/home, http://host/home/page, git+https://host/srv/x, ratio a:b/c, and/or")


FLAGS = ["--dataset", "BasicMotions", "--attention", "bn+sh", "--seeds", "3", "--num_train_epochs", "1"]
FLAGS += ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]
FLAGS += ["--efficiency_tokens", "100", "--threads", "1", "--output_dir", "out"]


@pytest.mark.slow
@pytest.mark.hub_peers
def test_a_training_script_publishes_its_checkpoint_in_one_commit(tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_test_write", "HF_HOME": str(tmp_path / "home")}
        environment |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}

        def run(*more):
            command = [sys.executable, ROOT / "scripts" / "run_time_series_classification.py", *FLAGS, *more]
            return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

        for flags, message in (
            (["--hub_model_id", "motions"], "`push_to_hub` needs `hub_model_id`, an owner/name"),
            (["--hub_model_id", "tester/motions"], "`push_to_hub` needs `model_license`"),
        ):
            refused = run("--push_to_hub", "true", *flags)
            assert message in refused.stderr
        assert not (tmp_path / "out").exists()
        push = ["--push_to_hub", "true", "--hub_model_id", "tester/motions", "--hub_private_repo", "true"]
        finished = run(*push, "--model_license", "mit")
        assert finished.returncode == 0, finished.stderr[-3000:]
        (folder,) = (tmp_path / "out").glob("primal-dual-*")
        pushed = hub.content("tester/motions")
        del pushed[".gitattributes"]
        assert pushed == published(folder, "tester/motions")
        assert b'pipeline("time-series-classification", model="tester/motions"' in pushed["README.md"]
        assert {"README.md", "results.json", "check.safetensors", "learning_curves.png"} < set(pushed)
        assert hub.repositories["tester/motions"].private
        assert hub.count("POST", "/commit/") == hub.count("POST", "/repos/create") == 1
        assert hub.unknown == []
