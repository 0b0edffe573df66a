"""The estimator over the archive's sets, small: by its defaults, and attention by attention."""

import json
from functools import partial
from pathlib import Path

import compare_on_archive
import estimator
import numpy as np
import pytest

from hf_primaldual import PrimalDualTimeSeriesClassifier

RESULTS = Path(__file__).parents[2] / "results" / "archive"
BRIEF = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_train_epochs": 1, "min_steps": 10}


def test_its_defaults_are_tried_with_each_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(estimator, "PrimalDualTimeSeriesClassifier", partial(PrimalDualTimeSeriesClassifier, **BRIEF))
    path = estimator.main(["--sets", "ItalyPowerDemand", "--seeds", "0", "1", "--output", str(tmp_path)])
    rows = json.loads(path.read_text())["rows"]
    assert [(row["dataset"], row["seed"], row["steps"]) for row in rows] == [
        ("ItalyPowerDemand", 0, 10),
        ("ItalyPowerDemand", 1, 10),
    ]
    assert all(0.4 < row["test_accuracy"] < 1 for row in rows)


def test_the_first_resample_is_the_published_split_and_the_others_are_as_large():
    (train, classes, test, _), (again, others, _, _) = (
        compare_on_archive.resampled("JapaneseVowels", i, 10) for i in (0, 1)
    )
    assert (len(train), len(test)) == (len(again), 370) == (270, 370)
    assert max(map(len, train)) <= 10
    assert np.bincount(classes).tolist() == [30] * 9
    assert sum(np.array_equal(one, other) for one, other in zip(train, again, strict=True)) < 9
    # In all series together, as it draws them, the classes are not of one size.
    assert np.bincount(others).tolist() != [30] * 9


def test_a_longer_series_is_averaged():
    series = np.arange(14.0).reshape(7, 2)
    np.testing.assert_array_equal(compare_on_archive.shortened(series, 7), series)
    np.testing.assert_array_equal(compare_on_archive.shortened(series, 3), [[2, 3], [8, 9], [12, 13]])


def test_the_table_is_that_of_the_committed_results():
    results = json.loads((RESULTS / "archive.json").read_text(encoding="utf-8"))
    assert compare_on_archive.summary(results) == (RESULTS / "archive.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_comparison_is_made_once_and_drawn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("numba", reason="aeon's code needs numba, which `make test-aeon` installs")
    brief = partial(PrimalDualTimeSeriesClassifier, **BRIEF)
    monkeypatch.setattr(compare_on_archive, "PrimalDualTimeSeriesClassifier", brief)
    flags = ["--sets", "BasicMotions", "ItalyPowerDemand", "--resamples", "1", "--longest", "20", "--processes", "1"]
    for fits in (10, 0):
        compare_on_archive.main([*flags, "--output", str(tmp_path)])
        assert capsys.readouterr().out.count(" s\n") == fits
    assert "mean rank" in (tmp_path / "archive.md").read_text()
    assert (tmp_path / "archive.png").stat().st_size > 10_000
    rows = json.loads((tmp_path / "archive.json").read_text())["rows"]
    assert {row["chosen"] for row in rows if "bn" in row["method"]} <= compare_on_archive.NORMALIZATIONS.keys()
