"""The paper's figures, measured and counted, without a display."""

import json

import pytest

from hf_primaldual.measure.figures import FIGURES, figure_rows
from hf_primaldual.measure.plots import pareto_front
from tests.hub.tables import table
from tests.scripts import load_script


def test_what_is_measured_within_the_budget_is_what_is_counted_beyond():
    figure = FIGURES[1]._replace(attentions=("bn+sh",))
    measured, beyond = figure_rows(figure, [64], [256, 65536], budget=60, rounds=1)
    (counted,) = figure_rows(figure, [64], [256], budget=0)
    assert [row["origin"] for row in (measured, beyond, counted)] == ["measured", "counted", "counted"]
    assert measured["flops"] == counted["flops"] < 1
    assert measured["time"] > 0
    assert counted["time"] is beyond["time"] is None
    assert measured["memory"] == pytest.approx(counted["memory"], rel=0.03)


def test_figures_are_drawn_with_their_numbers(tmp_path, capsys):
    script = load_script("figures")
    script.main(
        ["--figure", "1", "2", "--widths", "64", "--tokens", "512", "--budget", "0", "--output", str(tmp_path)]
    )
    (numbers,) = tmp_path.glob("*.json")
    assert len(json.loads(numbers.read_text())["rows"]) == 2
    assert (tmp_path / "figure-1-sdpa.png").read_bytes().startswith(b"\x89PNG")
    assert "not run: counted from shapes" in (tmp_path / "figure-2-sdpa.svg").read_text()
    assert "width   64     512 tokens" in capsys.readouterr().out


def test_accuracy_against_cost_is_drawn_from_a_results_file(tmp_path):
    file = tmp_path / "task.json"
    file.write_text(json.dumps(table()))
    load_script("figures").main(["--pareto", str(file), "--output", str(tmp_path)])
    assert "training step, ms" in (tmp_path / "pareto-task.svg").read_text()
    points = {"cheap": (1, 5), "beaten": (2, 4), "best": (3, 9), "dear": (4, 9), "as cheap": (1, 3)}
    assert pareto_front(points) == ["cheap", "best"]
