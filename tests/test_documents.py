"""What the documents tell a reader to type works."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.results import load_results
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS

ROOT = Path(__file__).parents[1]
CHECKPOINT = "outputs/demo/primal-dual-japanesevowels-bn-sh"


@pytest.fixture
def demo_folder(tmp_path, monkeypatch):
    """A working directory with the checkpoint that the demo leaves, untrained."""
    monkeypatch.chdir(tmp_path)
    config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, max_position_embeddings=29)
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(CHECKPOINT)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=12).save_pretrained(CHECKPOINT)
    # The README's repository; tests/hub/test_downloads.py loads one from a server, by revisions.
    shutil.copytree(CHECKPOINT, "me/japanese-vowels")
    return tmp_path


def test_the_readmes_python_runs(demo_folder):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert any(CHECKPOINT in block for block in blocks)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_transform_that_the_docs_show_derives_an_attention_and_is_saved(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "attentions.md").read_text(encoding="utf-8")
    transform, use = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "whitening.py").write_text(transform, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "whitening", raising=False)
    # Registered for this test alone: setting the name first makes pytest take back whatever it is in the end.
    monkeypatch.setitem(EXTENSIONS, "whitening.Whitening", None)
    del EXTENSIONS["whitening.Whitening"]
    exec(compile(use, "attentions.md", "exec"), {})
    assert (tmp_path / "whitened" / "whitening.py").exists()


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


@pytest.mark.parametrize("folder", sorted((ROOT / "model_cards").glob("*/")), ids=lambda folder: folder.name)
def test_a_committed_card_is_what_its_results_render_to(folder):
    assert (folder / "README.md").read_text(encoding="utf-8") == render_card(load_results(folder / "results.json"))


def test_the_page_of_results_and_the_cards_are_those_of_the_committed_runs():
    module = runpy.run_path(str(ROOT / "scripts" / "render_results.py"))
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == module["document"]()
    assert f"{module['BEGIN']}\n{module['summary']()}\n{module['END']}" in (ROOT / "README.md").read_text()
    for path in sorted(module["RESULTS"].glob("*.json")):
        results = load_results(path)
        folder = ROOT / "model_cards" / results["model_name"]
        assert load_results(folder / "results.json") == results
        for plot in results["plots"]:
            assert (folder / plot).read_bytes() == path.with_suffix(".png").read_bytes()


def test_the_readmes_accuracies_are_those_of_the_results():
    results = load_results(ROOT / "results" / "training" / "japanesevowels.json")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (results["baseline"], "bn+sh"):
        summary = results["summary"][name]
        mean, deviation = summary["test_accuracy_mean"], summary["test_accuracy_std"]
        short, long = (point[name] for point in results["efficiency"])
        cells = [f"`{name}`", f"{100 * mean:.2f} ± {100 * deviation:.2f} %", f"{summary['seeds']}"]
        for cost in (short, long):
            cells += [f"{cost['forward_flops'] / 1e6:,.0f} M", f"{cost['inference_ms']['median']:.2f} ms"]
        assert f"| {' | '.join(cells)} |" in readme
