"""Accidents while pushing and pulling: a clear error or a retry that succeeds, `main` whole, local files untouched."""

import hashlib
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.hub.loopback.client import Client, ClientError
from tests.hub.loopback.faults import Fault
from tests.hub.loopback.server import LoopbackHub

BYTES = 2_000_000


@pytest.fixture(scope="module", params=[True, False], ids=["xet", "lfs"])
def running(request, tmp_path_factory):
    """A test Hub, a client in a process of its own, and whether it transfers by Xet."""
    folder = tmp_path_factory.mktemp("running")
    with LoopbackHub(folder / "hub") as hub, Client(hub.endpoint, folder / "home", xet=request.param) as client:
        yield hub, client, request.param
        assert hub.unknown == []


@pytest.fixture(autouse=True)
def _no_faults(running):
    running[0].faults.clear()


def write_model(folder: Path, seed: int, size: int = BYTES) -> Path:
    """Files as a checkpoint has them, other ones for each seed and folder; `size` is that of the weights."""
    folder.mkdir(exist_ok=True)
    # Nothing that a compression or a deduplication would make small.
    weights = b"".join(hashlib.sha256(f"{folder} {seed} {i}".encode()).digest() for i in range(size // 32))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(f'{{"seed": {seed}}}')
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Number {seed}\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pushed(hub: LoopbackHub, repository: str) -> dict[str, bytes]:
    """The files of `main`, without the Hub's own."""
    files = hub.content(repository)
    del files[".gitattributes"]
    return files


def test_accidents_of_a_push(running, tmp_path):
    hub, client, xet = running
    folder, repository = write_model(tmp_path / "model", 0), "tester/pushed"
    upload = {"folder": folder, "repo_id": repository}
    transfer = ("GET", "xet-write-token") if xet else ("PUT", "/lfs/")
    client("upload", **upload)
    passing = [
        Fault("POST", "/commit/", "status", 500),
        Fault("POST", "/commit/", "status", 503, {"Retry-After": "0"}, times=2),
        Fault("POST", "/preupload/", "status", 429, {"Retry-After": "1"}),
        Fault("POST", "/commit/", "cut-request"),
        Fault("POST", "/commit/", "lost-response"),
        Fault(*transfer, "status", 500),
        Fault(*transfer, "cut-request"),
    ]
    for seed, fault in enumerate(passing, 1):
        local = contents(write_model(folder, seed))
        commits = len(hub.repositories[repository].commits)
        hub.faults[:] = [fault]
        started = time.monotonic()
        client("upload", **upload)
        assert fault.seen == fault.times, fault
        assert time.monotonic() - started >= float(fault.headers.get("Retry-After", 0)), fault
        assert pushed(hub, repository) == local == contents(folder), fault
        assert len(hub.repositories[repository].commits) == commits + 1, fault

    before = pushed(hub, repository)
    lasting = [
        (Fault("POST", "/commit/", "status", 500, {"Retry-After": "0"}, times=99), "HfHubHTTPError: .*500"),
        (Fault("POST", "/preupload/", "status", 403), "403 Forbidden"),
        (Fault(*transfer, "status", 403), "403" if xet else "Error while uploading 'model.safetensors' to the Hub"),
    ]
    for seed, (fault, message) in enumerate(lasting, 100):
        local = contents(write_model(folder, seed))
        hub.faults[:] = [fault]
        with pytest.raises(ClientError, match=f"(?s){message}"):
            client("upload", **upload)
        assert fault.seen, fault
        assert pushed(hub, repository) == before, fault
        assert contents(folder) == local, fault

    # A process that is killed while it sends its commit; the next one finishes.
    hub.faults[:] = [Fault("POST", "/commit/", "hold")]
    with Client(hub.endpoint, tmp_path / "home", xet=xet) as killed:
        killed.start("upload", **upload)
        while not hub.faults[0].seen:
            time.sleep(0.01)
        assert pushed(hub, repository) == before
        killed.process.kill()
    client("upload", **upload)
    assert pushed(hub, repository) == contents(folder)


def test_of_two_pushes_at_once_one_is_seen_whole_and_the_other_is_told(running, tmp_path):
    hub, client, xet = running
    repository, folders = "tester/raced", [write_model(tmp_path / f"model{seed}", seed) for seed in (1, 2)]
    client("upload", folder=write_model(tmp_path / "first", 0), repo_id=repository)
    with Client(hub.endpoint, tmp_path / "home", xet=xet) as other:
        clients = [client, other]
        hub.faults[:] = [Fault("POST", "/commit/", "together", times=2)]
        for each, folder in zip(clients, folders, strict=True):
            each.start("upload", folder=folder, repo_id=repository)
        answers = [each.answer() for each in clients]
        (won,) = [number for number, answer in enumerate(answers) if "result" in answer]
        assert answers[1 - won]["error"] == "RuntimeError"
        assert "somebody else pushed to main" in answers[1 - won]["message"]
        assert pushed(hub, repository) == contents(folders[won])
        # Told, it may push again.
        clients[1 - won]("upload", folder=folders[1 - won], repo_id=repository)
        assert pushed(hub, repository) == contents(folders[1 - won])


def test_tokens_and_revisions_that_are_wrong_are_named(running, tmp_path):
    hub, client, _ = running
    folder, repository = write_model(tmp_path / "model", 0), "tester/guarded"
    client("upload", folder=folder, repo_id=repository, private=True)
    with pytest.raises(ClientError, match="RevisionNotFoundError"):
        client("snapshot", repo_id=repository, revision="nowhere")
    before = pushed(hub, repository)
    write_model(folder, 1)
    refused = [("hf_wrong", "Invalid credentials"), ("hf_test_read", "write token"), (False, "401")]
    for token, message in refused:
        for name in (repository, "tester/new"):
            with pytest.raises(ClientError, match=message):
                client("upload", folder=folder, repo_id=name, token=token)
    assert pushed(hub, repository) == before
    assert "tester/new" not in hub.repositories


def test_accidents_of_a_pull(running, tmp_path):
    hub, client, xet = running
    folder, repository = tmp_path / "model", "tester/pulled"
    transfer = ("GET", "xet-read-token") if xet else ("GET", "/cdn/")
    passing = [
        Fault("GET", "/tree/", "status", 500),
        Fault("GET", "/tree/", "status", 429, {"Retry-After": "1"}),
        Fault("GET", "/resolve-cache/", "cut-response"),
        Fault(*transfer, "cut-response"),
        Fault(*transfer, "status", 500),
    ]
    for number, fault in enumerate(passing):
        # The client keeps what it may read by for each commit.
        client("upload", folder=write_model(folder, number), repo_id=repository)
        hub.faults[:] = [fault]
        pull = {"repo_id": repository, "cache_dir": tmp_path / f"cache{number}"}
        if fault.path == "/cdn/" and fault.kind == "status":
            # The one that the client does not try again by itself.
            with pytest.raises(ClientError, match="500 Internal Server Error"):
                client("snapshot", **pull)
        here = client("snapshot", **pull)
        assert fault.seen == 1, fault
        assert hub.content(repository) == contents(Path(here)), fault

    # The client looks at the size of what comes; its check of the checksums names what is damaged.
    head = hub.repositories[repository].branches["main"]
    hub.faults[:] = [Fault("GET", "/cdn/", "corrupt")]
    for block in hub.storage.xet.rglob("xorbs/default.*"):
        if block.suffix != ".tagset":
            content = bytearray(block.read_bytes())
            content[len(content) // 2] ^= 255
            block.chmod(0o644)
            block.write_bytes(content)
    damaged = {"repo_id": repository, "cache_dir": str(tmp_path / "damaged")}
    whole = {**damaged, "cache_dir": str(tmp_path / f"cache{len(passing) - 1}")}
    # One that has the blocks in memory would not ask for them again.
    with Client(hub.endpoint, tmp_path / "home", xet=xet) as fresh:
        fresh("snapshot", **damaged)
        assert "'path': 'model.safetensors'" in fresh("api", method="verify_repo_checksums", **damaged)
        assert "mismatches=[]" in fresh("api", method="verify_repo_checksums", **whole)
    # Ours looks at the checksums by itself: what was damaged on the way comes again, what is damaged there is named.
    with Client(hub.endpoint, tmp_path / "ours", xet=xet) as fresh:
        if not xet:
            hub.faults[:] = [Fault("GET", "/cdn/", "corrupt")]
            assert contents(Path(fresh("pull", repo_id=repository))) == hub.content(repository)
            assert hub.faults[0].seen == 1
            client("upload", folder=write_model(folder, 99), repo_id=repository)
            head = hub.repositories[repository].branches["main"]
            hub.faults[:] = [Fault("GET", "/cdn/", "corrupt", times=99)]
        with pytest.raises(ClientError, match=r"model\.safetensors of tester/pulled came twice with another checksum"):
            fresh("pull", repo_id=repository)
        cached = [path.name for path in (tmp_path / "ours").rglob("snapshots/*/*") if path.exists()]
        assert cached.count("model.safetensors") == int(not xet)
    assert hub.repositories[repository].branches["main"] == head


def test_a_full_disk_in_the_cache_is_named_and_what_was_there_is_kept(running, tmp_path):
    hub, client, xet = running
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of its own, in name spaces that end with the process: no rights are needed, and nothing is left.
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    where = shlex.quote(str(disk))
    if not shutil.which("unshare") or subprocess.run([*mounted, f"mount -t tmpfs tmpfs {where}"]).returncode:
        pytest.skip("this machine gives no file system of one's own")
    inner = f'mount -t tmpfs -o size=3m tmpfs {where} && exec "$@"'
    folder, repository = tmp_path / "model", "tester/crowded"
    old, new = (client("upload", folder=write_model(folder, seed), repo_id=repository)["commit"] for seed in (0, 1))
    with Client(hub.endpoint, disk, xet=xet, prefix=[*mounted, inner, "sh"]) as crowded:
        crowded("snapshot", repo_id=repository, revision=old)
        with pytest.raises(ClientError, match=r"(?i)no space left"):
            crowded("snapshot", repo_id=repository, revision=new)
        kept = crowded("api", method="verify_repo_checksums", repo_id=repository, revision=old)
        assert "mismatches=[]" in kept
        assert "missing_paths=[]" in kept
