"""Small checkpoints, what of one is published, and who loads it from the Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from transformers import ByT5Tokenizer, ViTImageProcessor

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
)
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.checkpoint import save_checkpoint
from tests.hub.tables import table
from tests.modeling.isolated import PREAMBLE
from tests.modeling.series import CHANNELS, small_model

LONGEST = 64


def checkpoint(task: str):
    """An untrained model of the task, and what turns an example into its inputs."""
    if task == "time-series-classification":
        config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, max_position_embeddings=29)
        extractor = PrimalDualTimeSeriesFeatureExtractor(feature_size=12)
        return PrimalDualTimeSeriesForSequenceClassification(config), extractor
    if task == "image-classification":
        config = PrimalDualViTConfig(image_size=[28, 35], patch_size=7, num_labels=9, num_hidden_layers=1)
        return PrimalDualViTForImageClassification(config), ViTImageProcessor(size={"height": 28, "width": 35})
    config = PrimalDualTextConfig(max_position_embeddings=LONGEST, num_labels=9)
    matching = task == "document-matching"
    model = PrimalDualTextForDocumentMatching if matching else PrimalDualTextForSequenceClassification
    return model(config), ByT5Tokenizer()


def ready_checkpoint(folder: Path, **fields) -> Path:
    """An untrained series model with its extractor, record, results, plot and card, ready to be published."""
    results = table()
    results["dataset"]["channels"] = CHANNELS
    plot = folder.parent / "learning_curves.png"
    plot.write_bytes(b"a picture")
    extractor = PrimalDualTimeSeriesFeatureExtractor(CHANNELS).fit([torch.randn(9, CHANNELS).numpy()])
    return save_checkpoint(folder, small_model(**fields), extractor, results, [plot])


def contents(folder: str | Path) -> dict[str, bytes]:
    """The files of a folder, but for the Hub's own."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != ".gitattributes"}


def published(folder: Path, repo_id: str) -> dict[str, bytes]:
    """The content of each file in the repository: the folder's, but that results and card say their address."""
    results = {**json.loads((folder / "results.json").read_text()), "repo_id": repo_id}
    return contents(folder) | {
        "results.json": (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode(),
        "README.md": render_card(results).encode(),
    }


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


def load(steps: list, home: Path, **environment) -> list[str]:
    """What `LOAD` prints, in a process that knows nothing of this package."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own |= {"HF_HOME": str(home), "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment}
    arguments = [sys.executable, "-I", "-c", PREAMBLE + LOAD, json.dumps(steps, default=str)]
    process = subprocess.run(arguments, env=own, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout.split()
