"""What the documents tell a reader to type works, and what they claim is in a committed result."""

import json
import re
import shutil
from pathlib import Path

import pytest

import hf_primaldual
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.checkpoint import with_code
from hf_primaldual.hub.checks import check
from hf_primaldual.hub.markdown import replace_between
from hf_primaldual.hub.results import LANGUAGE, TASKS, load_results
from tests.hub.tables import table
from tests.integration.test_convert_script import bert_with_tokenizer
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
TRAINED = sorted((RESULTS / "training").glob("*.json"))


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def words(document: str) -> str:
    """A document's text, on one line."""
    return " ".join(read(document).split())


def the_result(pattern: str) -> dict:
    """The one committed result of a kind."""
    (path,) = RESULTS.glob(pattern)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def a_reader(tmp_path, monkeypatch):
    """A working directory with what the README names: the cards' folder, and a model of the Hub, small."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "model_cards", "model_cards")
    bert_with_tokenizer(Path("sentence-transformers/all-MiniLM-L6-v2"))


@pytest.mark.usefixtures("a_reader")
def test_the_readmes_python_runs(capsys):
    predict, *blocks = re.findall(r"```python\n(.*?)```", read("README.md"), flags=re.DOTALL)
    exec(compile(predict, "README.md", "exec"), {})
    # The first of the test set, which the checkpoint knows.
    assert capsys.readouterr().out.startswith("[{'label': '1', 'score': 0.9")
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_page_of_the_api_has_all_that_is_public():
    page = read("docs/api.md")
    assert [name for name in hf_primaldual.__all__ if f"hf_primaldual.{name}\n" not in page] == []


def test_commands_and_files_that_the_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", read(name), flags=re.MULTILINE))
        assert named <= targets, name
        paths = re.findall(r"(?<![\w/])(?:scripts|src|tests)/[\w./-]*\w", read(name))
        assert [path for path in paths if not (ROOT / path).exists()] == [], name


@pytest.mark.parametrize("folder", sorted((ROOT / "model_cards").glob("*/")), ids=lambda folder: folder.name)
def test_a_committed_card_is_what_its_results_render_to_and_can_be_built_again(folder):
    results = load_results(folder / "results.json")
    assert (folder / "README.md").read_text(encoding="utf-8") == render_card(results)
    row = f"| [{folder.name}]({folder.name}/README.md) | {results['dataset']['name']} | `{results['attention']}` |"
    assert row in read("model_cards/README.md")
    assert results["model_name"] == folder.name
    if results["task"] not in TASKS:
        return
    _, _, (_, model_args, args) = load_script("cards").recorded_arguments(results)
    assert set(model_args.names) == {run["attention"] for run in results["runs"]}
    assert args.seeds == sorted({run["seed"] for run in results["runs"]})


BUNDLED = [path.parent for path in sorted((ROOT / "model_cards").glob("*/model.safetensors"))]


@pytest.mark.processes
@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_a_bundled_checkpoint_is_that_of_its_card_and_ready_to_be_published(folder, tmp_path):
    # Its code lies in src alone.
    assert not list(folder.glob("*.py"))
    names = {path.name for path in check(with_code(folder, tmp_path))}
    assert {"modeling_primal_dual.py", *(path.name for path in folder.iterdir())} < names


def test_what_was_built_otherwise_than_the_card_says_is_named():
    committed, differences = table()["runs"][1], load_script("build_checkpoints").differences
    assert differences(committed, dict(committed), 0.0) == []
    built = committed | {"test_accuracy": 0.98}
    assert differences(committed, built, 0.0) == ["test_accuracy 0.98 for 0.983"]
    assert differences(committed, built, 0.01) == []


@pytest.mark.slow
def test_the_released_run_of_a_card_is_trained_again_and_kept(tmp_path, monkeypatch):
    name = "primal-dual-italypowerdemand-bn"
    card = tmp_path / "cards" / name
    card.mkdir(parents=True)
    for path in ("README.md", "results.json", "learning_curves.png"):
        shutil.copyfile(ROOT / "model_cards" / name / path, card / path)
    monkeypatch.chdir(ROOT)
    # Which accuracy it reaches is the processor's.
    flags = ["--names", name, "--cards", str(card.parent), "--output_dir", str(tmp_path / "built"), "--tolerance", "1"]
    (folder,) = load_script("build_checkpoints").main([*flags, "--keep", "true"])
    assert (folder / "modeling_primal_dual.py").is_file()
    assert {path.name for path in card.iterdir()} == {path.name for path in (ROOT / "model_cards" / name).iterdir()}
    assert (card / "README.md").read_text() == (ROOT / "model_cards" / name / "README.md").read_text()


@pytest.mark.slow
def test_costs_of_a_card_are_measured_again_and_said_to_be(tmp_path, monkeypatch):
    name, script = "primal-dual-italypowerdemand-bn", load_script("measure_cards")
    card, kept = tmp_path / "cards" / name, tmp_path / "italypowerdemand.json"
    shutil.copytree(ROOT / "model_cards" / name, card)
    shutil.copyfile(card / "results.json", kept)
    before = load_results(kept)
    monkeypatch.chdir(ROOT)
    script.main(["--names", name, "--cards", str(tmp_path / "cards"), "--results_dir", str(tmp_path)])
    after = load_results(kept)
    assert after == load_results(card / "results.json")
    assert after["runs"] == before["runs"]
    points = list(zip(before["efficiency"], after["efficiency"], strict=True))
    assert all(old["softmax"]["parameters"] == new["softmax"]["parameters"] for old, new in points)
    assert all(old["softmax"]["inference_ms"] != new["softmax"]["inference_ms"] for old, new in points)
    assert f"after the training, on {after['measured']['date']}" in (card / "README.md").read_text()


def test_the_page_of_results_and_the_cards_are_those_of_the_committed_runs():
    script = load_script("render_results")
    assert read("docs/results.md") == script.document()
    assert read("README.md") == replace_between(read("README.md"), "results of training", script.summary())
    for path in TRAINED:
        results = load_results(path)
        folder = ROOT / "model_cards" / results["model_name"]
        assert load_results(folder / "results.json") == results
        for plot in results["plots"]:
            assert (folder / plot).read_bytes() == path.with_suffix(".png").read_bytes()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("significant", "difference", "cell"), [(True, 1.0, "**x**"), (True, -1.0, "*x (loss)*"), (False, -1.0, "x")]
)
def test_row_37_a_loss_is_not_marked_as_a_win(significant, difference, cell):
    marked = load_script("render_results").marked
    assert marked("x", {"significant": significant, "difference_mean": difference}) == cell
    assert marked("x", None) == "x"


@pytest.mark.fault
def test_row_37_the_readme_claims_no_more_than_was_measured():
    readme = words("README.md")
    for claim in ("every back-end", "they are exact", "tested with every preset (", "get padding right"):
        assert claim not in readme


def test_the_readme_is_one_screen_and_what_it_claims_was_measured():
    readme = words("README.md")
    assert len(read("README.md").split()) <= 900
    layers = {
        (row["attention"], row["tokens"]): row for row in the_result("attention-training-128x8-*+cpu.json")["rows"]
    }
    four, sixteen = (layers["bn+sh", tokens]["ratio"] for tokens in (4096, 16384))
    points = layers["bn+sh:256", 16384]["ratio"]
    claim = f"takes {four:.2f} of softmax's time at 4,096 tokens and {sixteen:.2f} at 16,384; with 256 points a head"
    assert f"{claim} {points:.2f}" in readme
    of_gpu = [row for row in the_result("attention-training-512x8-nvidia-h100-*.json")["rows"] if row["ratio"] < 1]
    pays = min(row["tokens"] for row in of_gpu if row["attention"] == "bn+sh")
    assert f"On an H100 `bn+sh` pays from {pays:,} tokens" in readme
    short = [row for path in RESULTS.glob("short-*.json") for row in json.loads(path.read_text())["rows"]]
    most = dict.fromkeys((False, True), 0.0)
    for row in short:
        if row["tokens"] < 500:
            padded = "padded" in row["model"]
            most[padded] = max(most[padded], row["ratio"])
    assert 1.2 < most[False] < 1.4
    assert 1.4 < most[True] < 1.6
    found = [load_results(path) for path in TRAINED]
    found = [results["comparisons"]["bn+sh"] for results in found if results["task"] != LANGUAGE]
    assert len(found) == 8
    assert sorted(each["difference_mean"] > 0 for each in found if each["significant"]) == [False, False, True]
    # In docs/efficiency.md.
    assert "from 4096 to 16384 tokens the memory of both grows fourfold" in words("docs/efficiency.md")
    rows = the_result("text-model-*-sdpa-*.json")["rows"]
    peaks = {(row["model"], row["tokens"]): row["peak_memory_bytes"] for row in rows}
    for name in ("softmax", "bn+sh"):
        assert peaks[name, 16384] / peaks[name, 4096] == pytest.approx(4, rel=0.01)


def test_figures_in_the_sentences_on_scale_are_those_of_the_results():
    series, images = (the_result(f"training-{name}-*.json") for name in ("japanese-vowels", "fashion-mnist"))
    one, ratios = series["rows"][0], [f"{ratio['ratio']:.2f}" for ratio in series["ratios"]]
    share = 100 * images["rows"][0]["data_share"]
    scale = words("docs/scale.md")
    for sentence in (
        f"data takes {100 * one['data_share']:.1f} % of a step",
        f"the start of an epoch {one['first_epoch_seconds']:.2f} s",
        f"{ratios[0]} times the throughput of one ({ratios[2]} without communication;",
        f"two threads {ratios[1]})",
        f"Fashion-MNIST with batch 64: {share:.1f} % and {images['ratios'][0]['ratio']:.2f}.",
    ):
        assert sentence in scale
