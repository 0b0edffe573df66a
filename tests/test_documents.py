"""What the documents tell a reader to type works."""

import re
from pathlib import Path

import pytest

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)

ROOT = Path(__file__).parents[1]
CHECKPOINT = "outputs/japanese-vowels/primal-dual-japanesevowels-bn-sh"


@pytest.fixture
def demo_folder(tmp_path, monkeypatch):
    """A working directory with the checkpoint that the demo leaves, untrained."""
    monkeypatch.chdir(tmp_path)
    config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, max_position_embeddings=29)
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(CHECKPOINT)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=12).save_pretrained(CHECKPOINT)
    return tmp_path


def test_the_readmes_python_runs(demo_folder):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert any(CHECKPOINT in block for block in blocks)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readmes_commands_are_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    documents = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", documents, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_files_that_the_documents_name_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"\b(?:scripts|src|tests)/[\w./-]*\w", text):
            assert (ROOT / path).exists(), f"{name} names {path}"
