"""
The whole way of a checkpoint: published with the script, changed, proposed, pulled, loaded, collected, removed.

The same steps run against the test Hub and, where HUB_TEST_TOKEN holds a token that may write, against the real one:
in a private repository and a private collection of that token's user, which are deleted at the end.
"""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from hf_primaldual.hub.checks import RECORD
from tests.hub.checkpoints import published, ready_checkpoint
from tests.hub.loopback.client import ROOT, Client, ClientError
from tests.hub.loopback.server import LoopbackHub
from tests.hub.test_downloads import load
from tests.hub.test_faults import contents

pytestmark = pytest.mark.slow
# One of the two in CI: the default suite has most of these steps by Xet.
MODES = pytest.mark.parametrize("xet", [True, pytest.param(False, marks=pytest.mark.hub_peers)], ids=["xet", "lfs"])


def pulled(client: Client, repository: str, **options) -> dict[str, bytes]:
    """What is downloaded, without the Hub's own file."""
    files = contents(Path(client("snapshot", repo_id=repository, **options)))
    del files[".gitattributes"]
    return files


def walk(client: Client, owner: str, folder: Path, home: Path) -> None:
    """Every step, in a repository of the owner that nobody else has."""
    name = f"hf-primaldual-test-{uuid.uuid4().hex[:12]}"
    repository, title = f"{owner}/{name}", f"Test {name}"
    collection = None
    try:
        script = [sys.executable, ROOT / "scripts" / "publish.py", folder, repository]
        script += ["--private", "--tag", "v1", "--collection", title]
        done = subprocess.run(script, env=client.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        collection = client("add_to_collection", title=title, repo_ids=[repository], private=True)
        assert collection["url"] == done.stdout.splitlines()[-1]
        assert list(collection["notes"]) == [repository]
        first = published(folder, repository)
        assert pulled(client, repository) == pulled(client, repository, revision="v1") == first

        (folder / "LICENSE").write_text("A licence.")
        second = contents(folder)
        upload = {"folder": folder, "repo_id": repository, "delete_others": True}
        client("upload", **upload, revision="dev")
        proposed = client("upload", **upload, pull_request=True)
        assert proposed["url"].rpartition("/")[2] == "1"
        assert pulled(client, repository, revision="dev") == second
        assert pulled(client, repository, revision="refs/pr/1") == second
        assert pulled(client, repository) == first
        commit = client("upload", **upload)["commit"]
        (folder / "LICENSE").unlink()
        assert client("upload", **upload)["removed"] == ["LICENSE"]
        assert pulled(client, repository, revision=commit) == second
        assert contents(Path(client("pull", repo_id=repository)))["config.json"] == first["config.json"]
        with pytest.raises(ClientError, match="has 'v1' already"):
            client("upload", **upload, tag="v1")
        with pytest.raises(ClientError, match="RevisionNotFoundError"):
            client("snapshot", repo_id=repository, revision="nowhere")
        with pytest.raises(ClientError, match="401"):
            client("upload", **upload, token="hf_wrong")

        commit = client("upload", **upload)["commit"]
        environment = {key: value for key, value in client.environment.items() if key.startswith("HF_")}
        steps = [(repository, {"revision": commit}, folder / RECORD, commit)]
        assert load(steps, home, **{**environment, "HF_HOME": str(home)}) == ["none"]
        assert client("collect", repo_ids=[repository])["rows"][0]["attention"] == "bn+sh"
    finally:
        client("api", method="delete_repo", repo_id=repository, missing_ok=True)
        if collection is not None:
            client("api", method="delete_collection", collection_slug=collection["slug"])


@MODES
def test_the_whole_way_on_the_test_hub(xet, tmp_path):
    folder = ready_checkpoint(tmp_path / "model")
    with LoopbackHub(tmp_path / "hub") as hub, Client(hub.endpoint, tmp_path / "home", xet=xet) as client:
        walk(client, "tester", folder, tmp_path / "stranger")
        assert hub.repositories == hub.collections.by_slug == {}
        assert hub.unknown == []


@pytest.mark.skipif("HUB_TEST_TOKEN" not in os.environ, reason="HUB_TEST_TOKEN, a token of the real Hub, is not set")
@MODES
def test_the_whole_way_on_the_real_hub(xet, tmp_path):
    folder = ready_checkpoint(tmp_path / "model")
    with Client(None, tmp_path / "home", token=os.environ["HUB_TEST_TOKEN"], xet=xet) as client:
        walk(client, client("whoami"), folder, tmp_path / "stranger")
