"""Small checkpoints, what of one is published, and the words of a person in its card."""

import json
from pathlib import Path

import torch
from huggingface_hub import ModelCard
from transformers import ByT5Tokenizer, ViTImageProcessor

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForCausalLM,
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
    if task == "text-generation":
        config = PrimalDualTextConfig(max_position_embeddings=LONGEST, is_decoder=True, num_hidden_layers=1)
        return PrimalDualTextForCausalLM(config), ByT5Tokenizer()
    matching = task == "document-matching"
    model = PrimalDualTextForDocumentMatching if matching else PrimalDualTextForSequenceClassification
    return model(PrimalDualTextConfig(max_position_embeddings=LONGEST, num_labels=9)), ByT5Tokenizer()


def ready_checkpoint(folder: Path) -> Path:
    """An untrained series model with its extractor, record, results, plot and card, ready to be published."""
    results = table()
    results["dataset"]["channels"] = CHANNELS
    plot = folder.parent / "learning_curves.png"
    plot.write_bytes(b"a picture")
    extractor = PrimalDualTimeSeriesFeatureExtractor(CHANNELS).fit([torch.randn(9, CHANNELS).numpy()])
    return save_checkpoint(folder, small_model(), extractor, results, [plot])


def contents(folder: str | Path) -> dict[str, bytes]:
    """The files of a folder, but for the Hub's own."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != ".gitattributes"}


def published(folder: Path, repo_id: str) -> dict[str, bytes]:
    """The content of each file in the repository: the folder's, but that results and card say their address."""
    results = {**json.loads((folder / "results.json").read_text()), "repo_id": repo_id}
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    return contents(folder) | {"results.json": text.encode(), "README.md": render_card(results).encode()}


WORDS = "For teaching.\n\n- Not for diagnosis: 9 people \\1 {{ made }} these data.\n\n### A heading of mine\n"


def edited(folder: Path) -> str:
    """The card after a person has written into it: all three sections, and the metadata."""
    path = folder / "README.md"
    card = path.read_text()
    for default in ("Not stated.\n", "None.\n"):
        card = card.replace(default, WORDS)
    card = card.replace("---\n", "---\nlanguage: [de, en]\nthumbnail: a.png\n", 1)
    card = card.replace("tags:\n", "tags:\n- my-tag\n").replace("datasets:\n", "datasets:\n- my/data\n")
    path.write_text(card)
    return card


def assert_kept(card: str) -> None:
    """All that `edited` wrote is in the card."""
    assert card.count(WORDS) == 3
    data = ModelCard(card).data
    assert (data.language, data.thumbnail) == (["de", "en"], "a.png")
    assert {"my-tag", "primal-dual-attention"} < set(data.tags)
    assert set(data.datasets) == {"some/data", "my/data"}
