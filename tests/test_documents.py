"""What the documents tell a reader to type works, and what they claim is in a committed result."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.markdown import replace_between
from hf_primaldual.hub.results import load_results
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
CHECKPOINT = "outputs/demo/primal-dual-japanesevowels-bn-sh"


@pytest.fixture
def demo_folder(tmp_path, monkeypatch):
    """A working directory with the checkpoint that the demo leaves, untrained."""
    monkeypatch.chdir(tmp_path)
    config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, max_position_embeddings=29)
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(CHECKPOINT)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=12).save_pretrained(CHECKPOINT)
    # The README's repository; tests/hub/test_whole_way.py loads one from a server, by revisions.
    shutil.copytree(CHECKPOINT, "me/japanese-vowels")
    return tmp_path


def test_the_readmes_python_runs(demo_folder):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert any(CHECKPOINT in block for block in blocks)
    assert "trust_remote_code" not in blocks[0]
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


def test_commands_and_files_that_the_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE))
        assert set() < named <= targets
        for path in re.findall(r"\b(?:scripts|src|tests)/[\w./-]*\w", text):
            assert (ROOT / path).exists(), f"{name} names {path}"


@pytest.mark.parametrize("folder", sorted((ROOT / "model_cards").glob("*/")), ids=lambda folder: folder.name)
def test_a_committed_card_is_what_its_results_render_to(folder):
    assert (folder / "README.md").read_text(encoding="utf-8") == render_card(load_results(folder / "results.json"))


def test_the_page_of_results_and_the_cards_are_those_of_the_committed_runs():
    module = runpy.run_path(str(ROOT / "scripts" / "render_results.py"))
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == module["document"]()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == replace_between(readme, "results of training", module["summary"]())
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


def words(document: str) -> str:
    """A document's text, on one line."""
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


def the_result(pattern: str) -> dict:
    """The one committed result of a kind."""
    (path,) = RESULTS.glob(pattern)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.fault
@pytest.mark.parametrize(
    ("significant", "difference", "cell"), [(True, 1.0, "**x**"), (True, -1.0, "*x (loss)*"), (False, -1.0, "x")]
)
def test_row_37_a_loss_is_not_marked_as_a_win(significant, difference, cell):
    module = runpy.run_path(str(ROOT / "scripts" / "render_results.py"))
    assert module["marked"]("x", {"significant": significant, "difference_mean": difference}) == cell
    assert module["marked"]("x", None) == "x"


@pytest.mark.fault
def test_row_37_the_readme_claims_no_more_than_was_measured():
    readme = words("README.md")
    for claim in ("every back-end", "they are exact", "tested with every preset (", "get padding right"):
        assert claim not in readme
    for path in (RESULTS / "training").glob("*.json"):
        results = load_results(path)
        for name, paired in results["comparisons"].items():
            mean, deviation = (100 * results["summary"][name][f"test_accuracy_{kind}"] for kind in ("mean", "std"))
            (row,) = re.findall(
                rf"^\| {results['dataset']['name']} \|.*$", (ROOT / "README.md").read_text("utf-8"), re.M
            )
            lost = paired["significant"] and paired["difference_mean"] < 0
            assert (f"*{mean:.2f} ± {deviation:.2f} (loss)*" in row) == lost, (path.stem, name)


def test_figures_in_the_readmes_sentences_are_those_of_the_results():
    results, readme = load_results(RESULTS / "training" / "japanesevowels.json"), words("README.md")
    paired, long = results["comparisons"]["bn+sh"], results["efficiency"][1]
    assert f"difference, {100 * paired['difference_mean']:.2f} ± {100 * paired['difference_std']:.2f} points" in readme
    assert not paired["significant"]
    assert f"at 1024 steps it takes {long['ratios']['bn+sh']['inference']:.2f} of softmax's" in readme
    seconds = [
        run["train_seconds"] for path in (RESULTS / "training").glob("*.json") for run in load_results(path)["runs"]
    ]
    assert "more than three hours on one core" in readme
    assert sum(seconds) > 3 * 3600
    peaks = {
        (row["model"], row["tokens"]): row["peak_memory_bytes"]
        for row in the_result("text-model-*-sdpa-*.json")["rows"]
    }
    assert "from 4096 to 16384 tokens the memory of both grows fourfold" in readme
    for name in ("softmax", "bn+sh"):
        assert peaks[name, 16384] / peaks[name, 4096] == pytest.approx(4, rel=0.01)


def test_figures_in_the_sentences_on_scale_are_those_of_the_results():
    series, images = (the_result(f"training-{name}-*.json") for name in ("japanese-vowels", "fashion-mnist"))
    one, ratios = series["rows"][0], [f"{ratio['ratio']:.2f}" for ratio in series["ratios"]]
    text, share = words("docs/scale.md"), 100 * images["rows"][0]["data_share"]
    for sentence in (
        f"data takes {100 * one['data_share']:.1f} % of a step, a fresh epoch {one['first_epoch_seconds']:.2f} s",
        f"{ratios[0]} times the throughput of one ({ratios[2]} if",
        f"two threads {ratios[1]})",
        f"Fashion-MNIST with batch 64: {share:.1f} % and {images['ratios'][0]['ratio']:.2f}.",
    ):
        assert sentence in text


def test_figures_in_the_sentences_on_costs_are_those_of_the_results():
    dense, sparse = (
        pd.DataFrame(the_result(f"figure-{number}-sdpa-*.json")["rows"]).query("attention == @name")
        for number, name in (("1-2", "bn+sh"), ("3-4", "sparse-bn+sh"))
    )
    text, memory, times = words("docs/efficiency.md"), dense.dropna(subset="memory"), sparse.dropna(subset="time")
    short, long = memory[memory.tokens < 2048].memory, memory[memory.tokens >= 2048].memory
    assert f"takes {short.min():.2f} to {short.max():.2f} times the memory of fused softmax" in text
    assert set(long.round(2)) == {0.92}
    assert "from there on 0.92" in text
    times = times[times.tokens < 4096].time
    assert f"`sparse-bn+sh` takes {times.min():.2f} to {times.max():.2f} times its time" in text
    assert "at width 64 more memory at every length" in text
    assert sparse[sparse.width == 64].memory.min() > 1
