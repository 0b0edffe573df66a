"""
Uploads to the test Hub, whole or not at all, whatever happens on the way. `make test` transfers large files by Xet,
`make test-hub` by LFS too.
"""

import contextlib
import hashlib
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from unittest import mock

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError

from hf_primaldual.hub.publish import _card_there, look, publish
from tests.hub.checkpoints import assert_kept, contents, edited, published, ready_checkpoint
from tests.hub.loopback.client import Client, ClientError, api, upload
from tests.hub.loopback.repository import File, Repository
from tests.hub.loopback.server import Fault, LoopbackHub, Refused


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.hub_peers)], ids=["xet", "lfs"])
def running(request, tmp_path_factory):
    """A test Hub, a client in a process of its own, and whether it transfers by Xet."""
    folder = tmp_path_factory.mktemp("running")
    with LoopbackHub(folder / "hub") as hub, Client(hub.endpoint, folder / "home", xet=request.param) as client:
        yield hub, client, request.param
        assert hub.unknown == []


def write_model(folder: Path, seed: int) -> Path:
    """Files as a checkpoint has them, other ones for each seed and folder."""
    folder.mkdir(exist_ok=True)
    # Nothing that a compression or a deduplication would make small.
    weights = b"".join(hashlib.sha256(f"{folder} {seed} {i}".encode()).digest() for i in range(2**15))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(f'{{"seed": {seed}}}')
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Number {seed}\n")
    return folder


@pytest.mark.processes
def test_branches_tags_and_pull_requests_hold_what_was_pushed_there(running, tmp_path):
    hub, client, xet = running
    folder = write_model(tmp_path / "model", 0)
    to, local = {"folder": folder, "repo_id": "tester/one"}, contents(folder)
    first = client(upload, **to, tag="v1", private=True)
    assert hub.repositories["tester/one"].private
    assert hub.content("tester/one", "v1") == hub.content("tester/one") == local
    assert [hub.count(part) > 0 for part in ("xet-write-token", "PUT /lfs/")] == [xet, not xet]
    # Run again it finds all there; other files under a tag that is there are refused before anything is sent.
    assert client(upload, **to, tag="v1").commit == first.commit
    for name in ("config.json", "model.safetensors", "new.json"):
        (folder / name).write_bytes(b"[]")
        with pytest.raises(ClientError, match="has 'v1' already"):
            client(upload, **to, tag="v1")
        (folder / name).write_bytes(local.get(name, b""))
    assert hub.count("/commit/") == 1

    (folder / "config.json").unlink()
    assert client(upload, **to, revision="dev", patterns=["*"]).removed == ("config.json",)
    assert hub.content("tester/one", "dev") == contents(folder)
    assert hub.content("tester/one") == local
    if not xet:
        # By Xet the client opens the pull request by requests that the test Hub does not know.
        assert client(upload, **to, pull_request=True).url.endswith("/discussions/1")
        assert hub.content("tester/one", "refs/pr/1") == {**local, **contents(folder)}
        assert hub.content("tester/one") == local
    here = client(api, method="snapshot_download", repo_id="tester/one", revision="dev")
    assert contents(here) == hub.content("tester/one", "dev")

    client(upload, folder, "tester/open")
    with pytest.raises(ClientError, match="is there and public"):
        client(upload, folder, "tester/open", private=True)
    with pytest.raises(ClientError, match="Invalid credentials"):
        client(upload, **to, token="hf_wrong")


@pytest.mark.processes
def test_an_upload_that_is_interrupted_is_not_seen_and_is_finished_by_running_it_again(running, tmp_path):
    hub, client, xet = running
    folder, name, transfer = tmp_path / "model", "tester/pushed", "xet-write-token" if xet else "PUT /lfs/"
    client(upload, write_model(folder, 0), name)
    faults = [Fault("/commit/", kind) for kind in (503, 403, "cut", "lost")]
    faults.append(Fault(transfer, 403))
    for seed, fault in enumerate(faults, 1):
        before, made = hub.content(name), len(hub.repositories[name].commits)
        local = contents(write_model(folder, seed))
        hub.faults[:] = [fault]
        # By Xet the client itself sends a commit again whose answer was lost, and finds its own in the way.
        again = xet and fault.kind == "lost"
        with contextlib.nullcontext() if again else contextlib.suppress(ClientError):
            client(upload, folder, name)
            before = local
        assert hub.content(name) == (local if fault.kind == "lost" else before), fault
        client(upload, folder, name)
        assert fault.seen, fault
        assert hub.content(name) == local == contents(folder), fault
        assert len(hub.repositories[name].commits) == made + 1, fault


@pytest.mark.processes
@pytest.mark.parametrize("part", ["/commit/", pytest.param("PUT /lfs/", marks=pytest.mark.hub_peers)])
def test_a_process_that_is_killed_leaves_all_to_the_next_one(running, part, tmp_path):
    hub, client, _ = running
    folder, name = write_model(tmp_path / "model", 0), f"tester/killed{len(part)}"
    # By LFS: of Xet's local store no second process may make use meanwhile.
    with Client(hub.endpoint, tmp_path / "home", xet=False) as killed:

        def kill():
            os.kill(killed.pid, signal.SIGKILL)
            raise Refused(503, "nobody is there to be told")

        hub.faults[:] = [Fault(part, kill)]
        with pytest.raises(BrokenProcessPool):
            killed(upload, folder, name)
    assert hub.content(name) == {}
    client(upload, folder, name)
    assert hub.content(name) == contents(folder)
    assert len(hub.repositories[name].commits) == 2


def test_whoever_pushed_meanwhile_is_not_overwritten(running, tmp_path):
    hub, client, _ = running
    to = {"folder": write_model(tmp_path / "model", 0), "repo_id": "tester/raced"}
    client(upload, **to)
    theirs = {"notes.md": File(b"theirs")}
    hub.faults[:] = [Fault("/preupload/", lambda: hub.repositories["tester/raced"].commit("refs/heads/main", theirs))]
    write_model(to["folder"], 1)
    with pytest.raises(ClientError, match="somebody else pushed to main"):
        client(upload, **to)
    assert hub.content("tester/raced") == {"notes.md": b"theirs"}
    # Told, one may push again.
    client(upload, **to)
    assert hub.content("tester/raced") == {"notes.md": b"theirs", **contents(to["folder"])}


OTHERS = {"notes.md": b"a person's", "data/rows.csv": b"1,2", "own_model.py": b"x = 1", "model.onnx": b"onnx"}
STALE = "model-00001-of-00002.safetensors"


def would_publish(*where, **options):
    """Without loading the checkpoint first: the publishing after it does."""
    with mock.patch("hf_primaldual.hub.checks.check_loading"):
        return publish(*where, dry_run=True, **options)


@pytest.mark.processes
@pytest.mark.fault
@pytest.mark.parametrize("running", [True], ids=["xet"], indirect=True)
def test_row_30_publishing_keeps_the_other_files_of_a_repository_unless_told(running, tmp_path):
    hub, client, _ = running
    folder, name = ready_checkpoint(tmp_path / "model"), "tester/shared"
    before, fresh = contents(folder), published(folder, name)
    card = edited(folder)
    (folder / "README.md").write_bytes(before["README.md"])
    files = {path: File(content) for path, content in OTHERS.items()}
    files |= {STALE: File(b"weights of another time"), "README.md": File(card.encode())}
    hub.repositories[name] = Repository()
    hub.repositories[name].commit("refs/heads/main", files)
    would = client(would_publish, folder, name, delete_others=True)
    assert (would.kept, sorted(would.removed)) == ((), sorted([*OTHERS, STALE]))
    assert [path for path, _ in would.files] == sorted(fresh)
    assert f"nothing was sent to {name}" in str(would)
    assert len(hub.repositories[name].commits) == 2

    done = client(publish, folder, name)
    assert (sorted(done.kept), done.removed) == (sorted(OTHERS), (STALE,))
    assert all(f"kept  {path}" in str(done) for path in OTHERS)
    assert f"{len(before['model.safetensors']):,}  model.safetensors" in str(done)
    # What somebody wrote into the card on the Hub has stayed.
    there = hub.content(name)
    assert_kept(there.pop("README.md").decode())
    del fresh["README.md"]
    assert there == {**OTHERS, **fresh}
    assert contents(folder) == before
    assert len(hub.repositories[name].commits) == 3


def test_without_the_hub_a_dry_run_says_so_and_an_upload_fails(tmp_path):
    there = {"api": HfApi(), "repo_id": "me/model", "revision": "main"}
    assert "what me/model holds was not looked at" in str(look(folder=write_model(tmp_path, 0), patterns=[], **there))
    assert _card_there(dry_run=True, **there) == ""
    with pytest.raises(LocalEntryNotFoundError):
        _card_there(dry_run=False, **there)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "model"}, "must be owner/name"),
        ({"repo_id": "me/model", "pull_request": True, "revision": "dev"}, "goes to main"),
        ({"repo_id": "me/model", "pull_request": True, "tag": "v1"}, "which a pull request is not yet"),
    ],
)
def test_row_30_arguments_that_contradict_each_other_are_refused_first(arguments, message):
    with pytest.raises(ValueError, match=message):
        publish("nowhere", **arguments)
