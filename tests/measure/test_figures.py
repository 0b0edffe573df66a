"""The paper's figures, measured and from the formulas, without a display."""

import importlib.util
import json
from pathlib import Path

import pytest

from hf_primaldual.measure import figures
from hf_primaldual.measure.figures import FIGURES, figure_rows, pareto_front
from tests.hub.tables import table

SCRIPT = Path(__file__).parents[2] / "scripts/figures.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("figures_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", FIGURES)
def test_what_is_measured_is_what_the_formulas_say(number):
    sizes = {"widths": [64], "lengths": [512]}
    measured = figure_rows(FIGURES[number], **sizes, budget=1000, rounds=1)
    computed = figure_rows(FIGURES[number], **sizes, budget=0)
    assert [set(row["origin"].values()) for row in measured + computed] == [{"measured"}] * 2 + [{"formula"}] * 2
    for row, formula in zip(measured, computed, strict=True):
        assert row["flops"] == formula["flops"] < 1
        assert row["time"] > 0
        assert formula["time"] is None
        if number < 3:
            assert row["memory"] == pytest.approx(formula["memory"], rel=0.03)
        else:
            assert row["memory"] > 0
            assert formula["memory"] is None


@pytest.mark.parametrize(
    ("tokens", "metric", "implementation", "at_most"),
    [(4096, "flops", "sdpa", 0.56), (16384, "flops", "sdpa", 0.52), (4096, "memory", "eager", 0.55)],
)
def test_the_saving_at_length_is_reached(tokens, metric, implementation, at_most):
    rows = figure_rows(FIGURES[1], [128], [tokens], budget=0, attn_implementation=implementation)
    assert next(row for row in rows if row["attention"] == "bn+sh")[metric] <= at_most


def test_memory_that_no_formula_knows_is_measured_where_times_are_out_of_reach(monkeypatch):
    # A speed at which one step of each model fits into the budget, and as many as a time takes do not.
    monkeypatch.setattr(figures, "_FIRST_SPEED", 1.0)
    work = figures.text_model_flops(figures._config("sparse", 64, 512, "sdpa"), 512).training
    (row, _) = figure_rows(FIGURES[4], [64], [512], budget=4 * work, rounds=5)
    assert row["time"] is None
    assert row["memory"] > 0
    assert row["origin"] == {"flops": "formula", "memory": "measured"}


def test_a_figure_is_drawn_with_its_numbers(script, tmp_path, capsys):
    sizes = ["--widths", "64", "512", "--tokens", "512", "16384"]
    script.main(["--figure", "1", "2", *sizes, "--budget", "0", "--output", str(tmp_path)])
    assert len(list(tmp_path.glob("*.json"))) == 1
    assert len(json.loads(next(tmp_path.glob("*.json")).read_text())["rows"]) == 8
    assert (tmp_path / "figure-2-sdpa.png").stat().st_size > 0
    assert (tmp_path / "figure-1-sdpa.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "figure-1-sdpa.svg").read_text()
    assert "from the closed formula" in picture
    assert "width  512   16384 tokens" in capsys.readouterr().out


def test_accuracy_against_cost_is_drawn_from_a_results_file(script, tmp_path):
    file = tmp_path / "task.json"
    file.write_text(json.dumps(table()))
    script.main(["--pareto", str(file), "--output", str(tmp_path)])
    assert "training step, ms" in (tmp_path / "pareto-task.svg").read_text()


def test_the_front_holds_what_nothing_beats():
    points = {"cheap": (1, 5), "beaten": (2, 4), "best": (3, 9), "dear": (4, 9), "as cheap": (1, 3)}
    assert pareto_front(points) == ["cheap", "best"]


def test_an_unknown_figure_is_refused(script):
    with pytest.raises(ValueError, match="1, 2, 3, 4, got 7"):
        script.main(["--figure", "7"])
