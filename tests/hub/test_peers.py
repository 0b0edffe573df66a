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
from tests.hub.loopback.client import Client, api, upload
from tests.hub.loopback.server import TOKEN, LoopbackHub
from tests.hub.test_uploads import write_model

pytestmark = pytest.mark.hub_peers


@pytest.fixture
def peers():
    assert "HUB_PEERS" in os.environ, "HUB_PEERS must name the folder of olah and npm's packages; run `make test-hub`"
    return Path(os.environ["HUB_PEERS"]).resolve()


def test_what_npm_and_we_push_is_what_we_pull_directly_and_through_olah(peers, tmp_path):
    folder = write_model(tmp_path / "model", 0)
    local = contents(folder)
    module = peers / "npm" / "node_modules" / "@huggingface" / "hub" / "dist" / "index.mjs"
    script = Path(__file__).parent / "loopback" / "writer.mjs"
    with LoopbackHub(tmp_path / "hub") as hub:
        command = ["node", script, module, hub.endpoint, TOKEN, "tester/npm", folder, "config.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (done.stderr[-2000:], hub.unknown)
        less = {name: content for name, content in local.items() if name != "config.json"}
        expected = [("npm", done.stdout.strip(), local), ("npm", "main", less), ("xet", "main", local)]
        with Client(hub.endpoint, tmp_path / "direct") as client:
            client(upload, folder, "tester/xet")
            assert_pulled(client, expected)
        assert hub.count("PUT /lfs/") == hub.count("xet/xet-write-token") == 1
        assert hub.unknown == []
        with olah(peers, hub, tmp_path) as endpoint, Client(endpoint, tmp_path / "behind", token=None) as client:
            assert_pulled(client, expected)
        assert hub.count("GET /cdn/") > 0
        # olah looks whether its Hub can be reached by a data set of the real one.
        assert set(hub.unknown) <= {"HEAD /datasets/Salesforce/wikitext/resolve/main/.gitattributes"}


def assert_pulled(client: Client, expected: list) -> None:
    """A client gets the files of each repository and revision."""
    for name, revision, files in expected:
        here = client(api, "snapshot_download", repo_id=f"tester/{name}", revision=revision)
        assert contents(here) == files, (name, revision)


@contextmanager
def olah(peers: Path, hub: LoopbackHub, folder: Path):
    """The address of a running olah in front of the test Hub; what it wrote is shown where a test fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"host": "127.0.0.1", "port": port, "hf-scheme": "http", "hf-netloc": f"127.0.0.1:{hub.port}"}
    options |= {"hf-lfs-netloc": f"localhost:{hub.port}", "mirror-scheme": "http"}
    options |= {f"mirror-{kind}": f"127.0.0.1:{port}" for kind in ("netloc", "lfs-netloc")}
    options |= {f"{kind}-path": folder / kind for kind in ("repos", "log")}
    command = [peers / "olah" / "bin" / "olah-cli", *(f"--{name}={value}" for name, value in options.items())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with open(folder / "said", "w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
    try:
        for _ in range(600):
            assert process.poll() is None, "olah ended"
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        print((folder / "said").read_text()[-3000:], hub.unknown)
