"""
The whole way of a checkpoint: published with the script, changed, proposed, loaded by strangers, found and compared by
the Python of docs/hub.md, removed.

The same steps run against the test Hub and, where HUB_TEST_TOKEN holds a token that may write, against the real one:
in private repositories and a collection of that token's user, which are deleted at the end.
"""

import os
import re
import shutil
import subprocess
import sys
import uuid
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import whoami

from hf_primaldual.hub.checks import RECORD
from tests.hub.checkpoints import contents, load, published, ready_checkpoint
from tests.hub.loopback.client import ROOT, Client
from tests.hub.loopback.server import LoopbackHub

pytestmark = pytest.mark.slow


def walk(new_client, owner: str, folder: Path) -> None:
    """Every step, in repositories of the owner that nobody else has."""
    name = f"hf-primaldual-test-{uuid.uuid4().hex[:12]}"
    repository, second = f"{owner}/{name}", f"{owner}/{name}-2"
    title, slug = f"Test {name}", None
    ready_checkpoint(folder)
    records = [shutil.copy(folder / RECORD, folder.parent / "first.safetensors")]
    # Other weights, with the logits that they give.
    other = ready_checkpoint(folder.parent / "other")
    records.append(shutil.copy(other / RECORD, folder.parent / "second.safetensors"))
    # One client after the other: Xet's folder takes one process at a time.
    with new_client() as client:
        environment = client.environment
    try:
        script = [sys.executable, ROOT / "scripts" / "publish.py", folder, repository, "--private", "--tag", "v1"]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        first = done.stdout.splitlines()[-1].rpartition("/")[2]
        with new_client() as client:
            for revision in ("main", "v1"):
                here = client("api", method="snapshot_download", repo_id=repository, revision=revision)
                assert contents(here) == published(folder, repository)

            # New weights without new code; then new code without new weights, on a branch and in a pull request.
            shutil.copytree(other, folder, dirs_exist_ok=True)
            upload = {"folder": folder, "repo_id": repository}
            newer = client("upload", **upload)["commit"]
            code = folder / "modeling_primal_dual_time_series.py"
            code.write_text(code.read_text() + '\nMARK = "branch"\n')
            branch = client("upload", **upload, revision="dev", tag="v2")["commit"]
            assert client("upload", **upload, pull_request=True)["url"].rpartition("/")[2] == "1"
            client("upload", folder=other, repo_id=second, private=True)
        steps = [
            (repository, {}, records[1], newer),
            (repository, {"revision": first}, records[0], first),
            (repository, {"revision": "v1", "code_revision": branch}, records[0], branch),
            (repository, {"revision": "v2"}, records[1], branch),
            (repository, {"revision": "dev", "code_revision": newer}, records[1], newer),
        ]
        marks = ["none", "none", "branch", "branch", "none"]
        home = folder.parent / "stranger"
        settings = {key: value for key, value in environment.items() if key.startswith("HF_")}
        assert load(steps, home, **{**settings, "HF_HOME": str(home)}) == marks
        # From the cache alone, which no token is needed for.
        assert load(steps[-1:], home, HF_HUB_OFFLINE="1") == marks[-1:]

        text = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
        for shown, ours in (
            ("me/japanese-vowels", repository),
            ("me/basic-motions", second),
            ('namespace="me"', f'namespace="{owner}", private=True'),
            ("Primal-dual attentions", title),
            ("0123456789abcdef0123456789abcdef01234567", newer),
        ):
            assert shown in blocks
            blocks = blocks.replace(shown, ours)
        with new_client() as client:
            lines = client("run", code=blocks).splitlines()
            (slug,) = (line.partition("/collections/")[2] for line in lines if "/collections/" in line)
            collection = client("api", method="get_collection", collection_slug=slug)
        assert {repository, second} <= set(lines)
        # No file is damaged.
        assert "[]" in lines
        assert f"| {repository} | bn+sh | 98.70 % | +0.92 | 0.75 | 1.31 | 0.80 |" in lines
        assert repository in collection
        assert "bn+sh on SomeData: test accuracy 98.70 %" in collection
    finally:
        with new_client() as client:
            for repo_id in (repository, second):
                client("api", method="delete_repo", repo_id=repo_id, missing_ok=True)
            if slug is not None:
                client("api", method="delete_collection", collection_slug=slug)


@pytest.mark.parametrize("xet", [pytest.param(True, marks=pytest.mark.hub_peers), False], ids=["xet", "lfs"])
def test_the_whole_way_on_the_test_hub(xet, tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        walk(partial(Client, hub.endpoint, tmp_path / "home", xet=xet), "tester", tmp_path / "model")
        assert hub.repositories == hub.collections == {}
        assert hub.unknown == []


@pytest.mark.skipif("HUB_TEST_TOKEN" not in os.environ, reason="HUB_TEST_TOKEN, a token of the real Hub, is not set")
@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_the_whole_way_on_the_real_hub(xet, tmp_path):
    owner = whoami(os.environ["HUB_TEST_TOKEN"])["name"]
    new_client = partial(Client, None, tmp_path / "home", token=os.environ["HUB_TEST_TOKEN"], xet=xet)
    walk(new_client, owner, tmp_path / "model")


FLAGS = ["--dataset", "BasicMotions", "--attention", "bn+sh", "--seeds", "3", "--num_train_epochs", "1"]
FLAGS += ["--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true"]
FLAGS += ["--efficiency_tokens", "100", "--threads", "1", "--output_dir", "out", "--model_license", "mit"]
FLAGS += ["--push_to_hub", "true", "--hub_model_id", "tester/motions", "--hub_private_repo", "true"]


@pytest.mark.hub_peers
def test_a_training_script_publishes_its_checkpoint_in_one_commit(tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        with Client(hub.endpoint, tmp_path / "home") as client:
            environment = client.environment
        command = [sys.executable, ROOT / "scripts" / "run_time_series_classification.py", *FLAGS]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        (folder,) = (tmp_path / "out").glob("primal-dual-*")
        pushed = hub.content("tester/motions")
        assert pushed == published(folder, "tester/motions")
        assert b'pipeline("time-series-classification", model="tester/motions"' in pushed["README.md"]
        assert hub.repositories["tester/motions"].private
        assert hub.count("POST", "/commit/") == hub.count("POST", "/repos/create") == 1
        assert hub.unknown == []
