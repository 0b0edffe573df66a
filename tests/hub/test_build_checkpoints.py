"""The program that builds the checkpoints of the committed cards."""

import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from hf_primaldual.hub.results import load_results
from tests.hub.loopback.client import ROOT
from tests.hub.tables import changed, table

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "build_checkpoints.py"))


CARDS = sorted((ROOT / "model_cards").glob("*/results.json"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_the_command_of_a_committed_card_can_be_run_and_the_table_of_the_cards_names_it(path):
    results, name = load_results(path), path.parent.name
    text = (ROOT / "model_cards" / "README.md").read_text(encoding="utf-8")
    assert f"| [{name}]({name}/README.md) | {results['dataset']['name']} | `{results['attention']}` |" in text
    assert results["model_name"] == name
    program = SCRIPT["command"](results["command"], Path("out"))
    assert (ROOT / program[1]).is_file()
    # The last of a flag counts: it resumes, and writes nowhere else.
    last = {flag: value for flag, value in pairwise(program) if flag.startswith("--")}
    assert (last["--output_dir"], last["--results_dir"]) == ("out", "out/kept")
    assert (last["--resume_from_checkpoint"], last["--overwrite"]) == ("true", "false")


def test_what_was_built_otherwise_than_the_card_says_is_named():
    committed, differences = table(), SCRIPT["differences"]
    assert differences(committed, table(), 0.0) == []
    built = changed(committed, ("runs", 1, "test_accuracy"), 0.98)
    assert differences(committed, built, 0.0) == ["softmax, seed 22: test_accuracy 0.98 for 0.983"]
    assert differences(committed, built, 0.01) == []
    del built["runs"][0]
    assert len(differences(committed, built, 0.01)) == 2
