"""The program that builds the checkpoints of the committed cards."""

import sys
from pathlib import Path

import pytest

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
def test_the_command_of_a_committed_card_can_be_run_and_the_table_of_the_cards_names_it(path, script):
    results, name = load_results(path), path.parent.name
    text = (ROOT / "model_cards" / "README.md").read_text(encoding="utf-8")
    assert f"| [{name}]({name}/README.md) | {results['dataset']['name']} | `{results['attention']}` |" in text
    assert results["model_name"] == name
    program = script.command(results["command"], Path("out"))
    assert (ROOT / program[1]).is_file()
    assert program[-4:] == ["--output_dir", "out", "--resume_from_checkpoint", "true"]


@pytest.mark.parametrize(
    ("recorded", "kept"),
    [
        (
            "python scripts/run.py a.yaml --overwrite --output_dir 'my out' --seeds 1 2 --results_dir res --x true",
            "scripts/run.py a.yaml --seeds 1 2 --x true",
        ),
        ("python a.py --resume true --b 1", "a.py --b 1"),
    ],
    ids=["series", "resumed"],
)
def test_a_recorded_command_is_turned_into_one_that_resumes_elsewhere(script, recorded, kept):
    assert (
        " ".join(script.command(recorded, Path("new"))[1:]) == f"{kept} --output_dir new --resume_from_checkpoint true"
    )


def test_what_was_built_otherwise_than_the_card_says_is_named(script):
    committed = table()
    assert script.differences(committed, table(), 0.0) == []
    built = changed(committed, ("runs", 1, "test_accuracy"), 0.98)
    assert script.differences(committed, built, 0.0) == ["softmax, seed 22: test_accuracy 0.98 for 0.983"]
    assert script.differences(committed, built, 0.01) == []
    del built["runs"][0]
    assert len(script.differences(committed, built, 0.01)) == 2
