"""
The whole way of a checkpoint: published with the script, changed, found and compared by the Python of docs/hub.md,
removed, and loaded by strangers.

The same steps run against the test Hub and, where HUB_TEST_TOKEN holds a token that may write, against the real one:
in private repositories and a collection of that token's user, which are deleted at the end.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from huggingface_hub import whoami

from hf_primaldual.hub.checks import RECORD
from tests.hub.checkpoints import contents, published, ready_checkpoint
from tests.hub.loopback.client import ROOT, Client, api, environment, upload
from tests.hub.loopback.client import run as run_python
from tests.hub.loopback.server import LoopbackHub
from tests.modeling.isolated import PREAMBLE

# Each line of the arguments: repository, options of `from_pretrained`, a record whose logits are expected, and a part
# of the module's name, in which transformers keeps the commit of the code.
LOAD = """
import json
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

for repo_id, options, record, commit in json.loads(sys.argv[1]):
    model = AutoModelForSequenceClassification.from_pretrained(repo_id, trust_remote_code=True, **options)
    AutoFeatureExtractor.from_pretrained(repo_id, trust_remote_code=True, **options)
    module = sys.modules[type(model).__module__]
    assert f".{commit}." in module.__name__, (module.__name__, commit)
    tensors = load_file(record)
    expected = tensors.pop("logits")
    with torch.no_grad():
        logits = model(**{name.removeprefix("input."): tensor for name, tensor in tensors.items()}).logits
    assert torch.equal(logits, expected), (repo_id, options)
    print(getattr(module, "MARK", "none"))
"""


def run(arguments: list, **options) -> list[str]:
    """The lines that a process prints, which must end well."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def walk(owner: str, endpoint: str | None, folder: Path, **token) -> None:
    """Every step, in repositories of the owner that nobody else has."""
    name = f"hf-primaldual-test-{uuid.uuid4().hex[:12]}"
    repository, second, slug = f"{owner}/{name}", f"{owner}/{name}-2", None
    ready_checkpoint(folder)
    # Other weights, with the logits that they give.
    other = ready_checkpoint(folder.parent / "other")
    records = [shutil.copy(each / RECORD, folder.parent / f"{each.name}.safetensors") for each in (folder, other)]
    env = environment(endpoint, folder.parent / "home", **token)
    script = [ROOT / "scripts" / "publish.py", folder, repository, "--private", "--tag", "v1"]
    first = run(script, env=env)[-1].rpartition("/")[2]
    with Client(endpoint, folder.parent / "home", **token) as client:
        try:
            here = client(api, "snapshot_download", repo_id=repository, revision="v1")
            assert contents(here) == published(folder, repository)

            # New weights without new code; then new code without new weights, on a branch.
            shutil.copytree(other, folder, dirs_exist_ok=True)
            newer = client(upload, folder, repository).commit
            code = folder / "modeling_primal_dual_time_series.py"
            code.write_text(code.read_text() + '\nMARK = "branch"\n')
            branch = client(upload, folder, repository, revision="dev", tag="v2").commit
            client(upload, other, second, private=True)

            text = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
            blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
            # What a reader's own Trainer has trained is published in test_trained.py.
            blocks = "\n".join(block for block in blocks if "trainer" not in block)
            for shown, ours in (
                ("me/japanese-vowels", repository),
                ("me/basic-motions", second),
                ('namespace="me"', f'namespace="{owner}", private=True'),
                ("Primal-dual attentions", f"Test {name}"),
                ("0123456789abcdef0123456789abcdef01234567", newer),
            ):
                assert shown in blocks
                blocks = blocks.replace(shown, ours)
            lines = client(run_python, blocks).splitlines()
            (slug,) = (line.partition("/collections/")[2] for line in lines if "/collections/" in line)
            # No file is damaged.
            assert {repository, second, "[]"} <= set(lines)
            assert f"| {repository} | bn+sh | 98.70 % | +0.92 | 0.75 | 1.31 | 0.80 |" in lines
            assert "bn+sh on SomeData: test accuracy 98.70 %" in client(api, "get_collection", collection_slug=slug)

            steps = [
                (repository, {}, records[1], newer),
                (repository, {"revision": "v1", "code_revision": branch}, records[0], branch),
                (repository, {"revision": first}, records[0], first),
            ]
            stranger = environment(endpoint, folder.parent / "stranger", **token)
            stranger["OMP_NUM_THREADS"] = str(torch.get_num_threads())
            load = ["-I", "-c", PREAMBLE + LOAD, json.dumps(steps, default=str)]
            assert run(load, env=stranger) == ["none", "branch", "none"]
        finally:
            for repo_id in (repository, second):
                client(api, "delete_repo", repo_id=repo_id, missing_ok=True)
            if slug is not None:
                client(api, "delete_collection", collection_slug=slug)


@pytest.mark.hub_peers
def test_the_whole_way_on_the_test_hub(tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        walk("tester", hub.endpoint, tmp_path / "model")
        assert hub.repositories == hub.collections == {}
        assert hub.unknown == []


@pytest.mark.slow
@pytest.mark.skipif("HUB_TEST_TOKEN" not in os.environ, reason="HUB_TEST_TOKEN, a token of the real Hub, is not set")
@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_the_whole_way_on_the_real_hub(xet, tmp_path):
    token = os.environ["HUB_TEST_TOKEN"]
    walk(whoami(token)["name"], None, tmp_path / "model", token=token, xet=xet)


FLAGS = """
--dataset BasicMotions --attention bn+sh --seeds 3 --max_steps 1 --hidden_size 16 --intermediate_size 16
--num_hidden_layers 1 --disable_tqdm true --efficiency_tokens 100 --threads 1 --output_dir out --model_license mit
--push_to_hub true --hub_model_id tester/motions --hub_private_repo true
"""


@pytest.mark.hub_peers
def test_a_training_script_publishes_its_checkpoint_in_one_commit(tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub:
        script = [ROOT / "scripts" / "run_time_series_classification.py", *FLAGS.split()]
        run(script, cwd=tmp_path, env=environment(hub.endpoint, tmp_path / "home"))
        (folder,) = (tmp_path / "out").glob("primal-dual-*")
        pushed = hub.content("tester/motions")
        assert pushed == published(folder, "tester/motions")
        assert b'pipeline("time-series-classification", model="tester/motions"' in pushed["README.md"]
        assert hub.repositories["tester/motions"].private
        assert hub.count("/commit/") == hub.count("/repos/create") == 1
        assert hub.unknown == []
