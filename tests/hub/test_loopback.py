"""
The loopback test Hub itself: its ids are git's, and what it does not know fails.

That hf_xet takes `local:///folder` as a content store is nowhere documented. Where these tests fail with a newer
hf_xet, that has changed, and the Xet half of the Hub's tests needs another store.
"""

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.hub.loopback.client import Client, ClientError
from tests.hub.loopback.git import check_trees, git, write_tree
from tests.hub.loopback.repository import ATTRIBUTES, File, git_id, tree_id
from tests.hub.loopback.server import LoopbackHub

FILES = {
    "README.md": b"# A card\n",
    "a.py": b"",
    "a/b.py": b"x = 1\n",
    "a-b/c.txt": b"in a folder that git sorts before a/\n",
    "deep/er/still/one.json": json.dumps({"key": "ä"}).encode(),
}


def test_tree_ids_are_those_of_git_write_tree(tmp_path):
    oids = {path: File(content).oid for path, content in FILES.items()}
    assert tree_id(oids) == write_tree(FILES, tmp_path / "files")
    assert git(tmp_path / "files", "hash-object", "a/b.py") == git_id("blob", FILES["a/b.py"])


def test_a_request_that_it_does_not_know_is_answered_501_and_kept(tmp_path):
    with LoopbackHub(tmp_path) as hub:
        # No such path, and no such method of a path.
        for method, path in (("GET", "/api/spaces/tester/one"), ("DELETE", "/api/models/tester/one/tag/v1")):
            with pytest.raises(urllib.error.HTTPError, match="501"):
                urllib.request.urlopen(urllib.request.Request(hub.endpoint + path, method=method))
            assert hub.unknown.pop() == f"{method} {path}"


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_what_is_pushed_is_pulled_in_both_transfer_modes(xet, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    # Over 10 MB, and nothing that a compression or a deduplication would make small.
    large = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(11_000_000 // 32))
    contents = {"model.safetensors": large, "config.json": b"{}", "README.md": b"---\nlicense: mit\n---\n# One\n"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with LoopbackHub(tmp_path / "hub") as hub, Client(hub.endpoint, tmp_path / "home", xet=xet) as client:
        first = client("upload", folder=folder, repo_id="tester/one", tag="v1")
        assert "11,000,000  model.safetensors" in first["shown"]
        assert hub.content("tester/one", "v1") == {**contents, ".gitattributes": ATTRIBUTES}
        assert hub.count("POST", "/commit/") == 1
        assert (hub.count("GET", "xet-write-token") > 0) == xet
        assert (hub.count("PUT", "/lfs/") > 0) != xet

        assert client("upload", folder=folder, repo_id="tester/one", tag="v1")["commit"] == first["commit"]
        # Other files under a tag that is there: refused before anything is sent.
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_bytes(b"[]")
            with pytest.raises(ClientError, match="has 'v1' already"):
                client("upload", folder=folder, repo_id="tester/one", tag="v1")
            (folder / name).write_bytes(contents[name])
        assert hub.count("POST", "/commit/") == 1
        assert hub.count("POST", "/commit/") == 1

        (folder / "config.json").unlink()
        (folder / "other.json").write_bytes(b"[]")
        branch = client("upload", folder=folder, repo_id="tester/one", revision="dev", delete_others=True)
        assert branch["removed"] == ["config.json"]
        pull = client("upload", folder=folder, repo_id="tester/one", pull_request=True, delete_others=True)
        assert pull["url"].endswith("/discussions/1")
        assert hub.repositories["tester/one"].branches["main"] == first["commit"]
        assert set(hub.content("tester/one", "refs/pr/1")) == set(hub.content("tester/one", "dev"))
        assert "other.json" in hub.content("tester/one", "dev")
        with pytest.raises(ClientError, match="has 'v1' already"):
            client("upload", folder=folder, repo_id="tester/one", revision="dev", tag="v1")

        for revision in ("main", "dev", "v1", "refs/pr/1", first["commit"]):
            here = client("snapshot", repo_id="tester/one", revision=revision)
            there = hub.content("tester/one", revision)
            assert {path.name: path.read_bytes() for path in Path(here).iterdir()} == there
        assert (hub.count("GET", "xet-read-token") > 0) == xet
        assert (hub.count("GET", "/cdn/") > 0) != xet

        check_trees(hub.repositories["tester/one"], tmp_path / "trees")

        client("upload", folder=folder, repo_id="tester/hidden", private=True)
        with Client(hub.endpoint, tmp_path / "reader", token="hf_test_read", xet=xet) as reader:
            reader("snapshot", repo_id="tester/hidden")
            with pytest.raises(ClientError, match="write token"):
                reader("upload", folder=folder, repo_id="tester/hidden")
        with Client(hub.endpoint, tmp_path / "nobody", token=None, xet=xet) as nobody:
            nobody("snapshot", repo_id="tester/one")
            with pytest.raises(ClientError, match="RepositoryNotFoundError"):
                nobody("snapshot", repo_id="tester/hidden")
        with pytest.raises(ClientError, match="is there and public"):
            client("upload", folder=folder, repo_id="tester/one", private=True)
        assert "dev" in client("api", method="list_repo_refs", repo_id="tester/one")
        assert "files of a checkpoint" in client("api", method="list_repo_commits", repo_id="tester/one")
        assert client("api", method="whoami").count("tester") == 1
        client("api", method="get_paths_info", repo_id="tester/one", paths=["README.md"])
        client("api", method="delete_repo", repo_id="tester/hidden")
        assert list(hub.repositories) == ["tester/one"]
        assert hub.unknown == []
