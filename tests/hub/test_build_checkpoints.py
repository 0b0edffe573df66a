"""The program that builds the checkpoints of the committed cards."""

import sys
from pathlib import Path

import pytest

from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.results import load_results
from tests.hub.loopback.client import ROOT
from tests.hub.tables import changed, table

CARDS = sorted((ROOT / "model_cards").glob("*/results.json"))


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import build_checkpoints

    yield build_checkpoints
    del sys.modules["build_checkpoints"]


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_a_committed_card_is_that_of_its_results_and_its_command_can_be_run(path, script):
    results = load_results(path)
    assert path.with_name("README.md").read_text(encoding="utf-8") == render_card(results)
    assert results["model_name"] == path.parent.name
    program = script.command(results["command"], Path("out"))
    assert (ROOT / program[1]).is_file()
    assert program[-4:] == ["--output_dir", "out", "--resume_from_checkpoint", "true"]


def test_the_table_of_the_cards_names_each():
    text = (ROOT / "model_cards" / "README.md").read_text(encoding="utf-8")
    assert CARDS
    for path in CARDS:
        results = load_results(path)
        name = path.parent.name
        assert f"| [{name}]({name}/README.md) | {results['dataset']['name']} | `{results['attention']}` |" in text


def test_a_recorded_command_is_turned_into_one_that_resumes_elsewhere(script):
    recorded = (
        "python scripts/run.py a.yaml --overwrite --output_dir 'my out' --seeds 1 2 --results_dir results --x true"
    )
    expected = [
        "scripts/run.py",
        "a.yaml",
        "--seeds",
        "1",
        "2",
        "--x",
        "true",
        "--output_dir",
        "new",
        "--resume_from_checkpoint",
        "true",
    ]
    assert script.command(recorded, Path("new"))[1:] == expected
    assert script.command("python a.py --resume true --b 1", Path("new"))[1:4] == ["a.py", "--b", "1"]


def test_what_was_built_otherwise_than_the_card_says_is_named(script):
    committed = table()
    assert script.differences(committed, table(), 0.0) == []
    built = changed(committed, ("runs", 1, "test_accuracy"), 0.98)
    assert script.differences(committed, built, 0.0) == ["softmax, seed 22: test_accuracy 0.98 for 0.983"]
    assert script.differences(committed, built, 0.01) == []
    del built["runs"][0]
    assert len(script.differences(committed, built, 0.01)) == 2
