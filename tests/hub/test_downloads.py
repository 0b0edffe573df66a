"""A stranger's downloads: by name, by revision, of private repositories, from the cache alone."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from hf_primaldual.hub.checks import RECORD
from hf_primaldual.hub.results import load_results
from tests.hub.checkpoints import ready_checkpoint
from tests.hub.loopback.client import Client, ClientError
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


def load(steps, home, **environment):
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own |= {"HF_HOME": str(home), "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment}
    arguments = [sys.executable, "-I", "-c", PREAMBLE + LOAD, json.dumps(steps, default=str)]
    process = subprocess.run(arguments, env=own, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout.split()


LONG = [pytest.mark.slow, pytest.mark.hub_peers]


@pytest.mark.parametrize("xet", [True, pytest.param(False, marks=LONG)], ids=["xet", "lfs"])
def test_every_way_of_loading_a_published_checkpoint(xet, tmp_path):
    folder, record, newer = (tmp_path / name for name in ("model", "first.safetensors", "second.safetensors"))
    ready_checkpoint(folder)
    shutil.copy(folder / RECORD, record)
    # Other weights, with the logits that they give.
    other = ready_checkpoint(tmp_path / "other")
    shutil.copy(other / RECORD, newer)
    code = folder / "modeling_primal_dual_time_series.py"
    with LoopbackHub(tmp_path / "hub") as hub, Client(hub.endpoint, tmp_path / "home", xet=xet) as client:
        upload = {"folder": folder, "repo_id": "tester/series"}
        first = client("upload", **upload)["commit"]
        # New weights without new code.
        shutil.copy(other / "model.safetensors", folder)
        shutil.copy(other / RECORD, folder)
        second = client("upload", **upload, tag="v2")["commit"]
        # New code without new weights, on a branch.
        code.write_text(code.read_text() + '\nMARK = "branch"\n')
        third = client("upload", **upload, revision="dev")["commit"]
        client("upload", folder=other, repo_id="tester/hidden", private=True)
        hidden = hub.repositories["tester/hidden"].branches["main"]
        name = "tester/series"
        steps = [
            (name, {}, newer, second),
            (name, {"revision": first}, record, first),
            (name, {"revision": first, "code_revision": first}, record, first),
            (name, {"revision": "v2", "code_revision": third}, newer, third),
            (name, {"revision": "dev"}, newer, third),
            (name, {"revision": "dev", "code_revision": second}, newer, second),
            ("tester/hidden", {"token": "hf_test_read"}, newer, hidden),
        ]
        marks = ["none", "none", "none", "branch", "branch", "none", "none"]
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": str(int(not xet))}
        assert load(steps, tmp_path / "stranger", **environment) == marks
        assert hub.unknown == []

        collected = client("collect", repo_ids=["tester/series", "tester/hidden"])
        results = load_results(folder / "results.json")
        assert len(collected["rows"]) == 2 * len(results["efficiency"])
        row = collected["rows"][0]
        assert row["test_accuracy"] == results["summary"]["bn+sh"]["test_accuracy_mean"]
        assert row["inference_ratio"] == results["efficiency"][0]["ratios"]["bn+sh"]["inference"]
        assert "| tester/series | SomeData | bn+sh | 2 | 98.70 % | +0.92 |" in collected["table"]

        # Found by what it is, and in a collection with what it reached.
        names = ["tester/series", "tester/hidden"]
        assert client("found", tags=["primal-dual-attention", "time-series-classification"]) == names
        assert client("found", tags=["transformers", "attention-bn-sh"]) == names
        assert client("found", tags=["attention-bn"]) == client("found", tags=[], pipeline_tag="fill-mask") == []
        note = "bn+sh on SomeData: test accuracy {} %, +0.92 points to softmax, over 2 seeds"
        filled = client("add_to_collection", title="Some series", repo_ids=names[:1])
        assert filled["notes"] == {names[0]: note.format("98.70")}
        results["summary"]["bn+sh"]["test_accuracy_mean"] = 0.99
        (folder / "results.json").write_text(json.dumps(results))
        client("upload", **upload)
        again = client("add_to_collection", title="Some series", repo_ids=names)
        assert again["url"] == filled["url"]
        assert again["notes"] == {names[0]: note.format("99.00"), names[1]: note.format("98.70")}
        with pytest.raises(ClientError, match="RepositoryNotFoundError"):
            client("add_to_collection", title="Some series", repo_ids=["tester/nowhere"])
        assert hub.unknown == []
    # The server is gone.
    offline = [(*step[:1], {k: v for k, v in step[1].items() if k != "token"}, *step[2:]) for step in steps]
    assert load(offline, tmp_path / "stranger", HF_HUB_OFFLINE="1") == marks
