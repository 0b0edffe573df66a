"""
Other people's programs against the test Hub: npm's `@huggingface/hub` writes, PyPI's `olah`, a proxy, reads.

`make test-hub` installs them into the folder that HUB_PEERS names: `olah/bin/olah-cli`, `npm/node_modules`.
"""

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hub.checkpoints import contents
from tests.hub.loopback.client import Client
from tests.hub.loopback.git import check_trees
from tests.hub.loopback.server import LoopbackHub
from tests.hub.test_uploads import write_model

pytestmark = pytest.mark.hub_peers

# More than the Hub takes in a commit: it has to travel as a large file.
LARGE = 11_000_000
MODES = {"xet": True, "lfs": False}


@pytest.fixture(scope="module")
def peers():
    assert "HUB_PEERS" in os.environ, "HUB_PEERS must name the folder of olah and npm's packages; run `make test-hub`"
    return Path(os.environ["HUB_PEERS"]).resolve()


def pulled(client: Client, repository: str, **options) -> dict[str, bytes]:
    """The files that a client gets of a repository."""
    return contents(client("api", method="snapshot_download", repo_id=repository, **options))


def test_what_npms_client_pushes_is_what_ours_pulls(peers, tmp_path):
    folder = write_model(tmp_path / "model", 0, LARGE)
    module = peers / "npm" / "node_modules" / "@huggingface" / "hub" / "dist" / "index.mjs"
    script = Path(__file__).parent / "loopback" / "writer.mjs"
    with LoopbackHub(tmp_path / "hub") as hub:
        command = ["node", script, module, hub.endpoint, "hf_test_write", "tester/npm", folder, "config.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (done.stderr[-2000:], hub.unknown)
        first, head = done.stdout.strip(), hub.repositories["tester/npm"].head()
        assert head.parent == first
        check_trees(hub.repositories["tester/npm"], tmp_path / "trees")
        local = contents(folder)
        less = {name: content for name, content in local.items() if name != "config.json"}
        for mode, xet in MODES.items():
            with Client(hub.endpoint, tmp_path / mode, xet=xet) as client:
                assert pulled(client, "tester/npm", revision=first) == local
                assert pulled(client, "tester/npm") == less
        assert hub.unknown == []


def test_what_is_pushed_comes_through_olah(peers, tmp_path):
    local = {mode: write_model(tmp_path / f"from-{mode}", 0, LARGE) for mode in MODES}
    with LoopbackHub(tmp_path / "hub") as hub:
        for mode, xet in MODES.items():
            with Client(hub.endpoint, tmp_path / f"writer-{mode}", xet=xet) as client:
                client("upload", folder=local[mode], repo_id=f"tester/{mode}")
            check_trees(hub.repositories[f"tester/{mode}"], tmp_path / "trees" / mode)
        assert hub.count("GET", "tester/xet/xet-write-token") == 1
        assert hub.count("PUT", "/lfs/") == 1
        with olah(peers, hub, tmp_path) as endpoint:
            for mode, xet in MODES.items():
                with Client(endpoint, tmp_path / f"reader-{mode}", token=None, xet=xet) as client:
                    for pushed in MODES:
                        assert pulled(client, f"tester/{pushed}") == contents(local[pushed])
        assert hub.count("GET", "/cdn/") > 0
        # olah looks whether its Hub can be reached by a data set of the real one.
        assert set(hub.unknown) <= {"HEAD /datasets/Salesforce/wikitext/resolve/main/.gitattributes"}


@contextmanager
def olah(peers: Path, hub: LoopbackHub, folder: Path):
    """The address of a running olah in front of the test Hub; what it wrote is shown where a test fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [peers / "olah" / "bin" / "olah-cli", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--hf-scheme", "http", "--hf-netloc", f"127.0.0.1:{hub.port}"]
    command += ["--hf-lfs-netloc", f"localhost:{hub.port}", "--mirror-scheme", "http"]
    command += ["--mirror-netloc", f"127.0.0.1:{port}", "--mirror-lfs-netloc", f"127.0.0.1:{port}"]
    command += ["--repos-path", folder / "repos", "--log-path", folder / "logs"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with open(folder / "said", "w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        print((folder / "said").read_text()[-3000:], hub.unknown)


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Until the port is listened on."""
    for _ in range(600):
        assert process.poll() is None, "olah ended"
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("olah did not start")
