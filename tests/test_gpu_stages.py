"""The stages of `make gpu` that are no tests, small and on a CPU."""

import json

import pytest

from tests import gpu


@pytest.mark.slow
def test_every_stage_ends_and_leaves_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["gpu", "--device", "cpu", "--stage", "fast", "learns", "many", "--output", str(tmp_path)]
    )
    assert gpu.main() == 0
    # Training, inference and compiled layers, sparse and causal ones, and two sizes of pictures in both modes.
    rows = [json.loads(path.read_text())["rows"] for path in tmp_path.glob("*-torch-*.json")]
    assert len(rows) == 9
    assert all("ms" in row for each in rows for row in each)
    for name in ("listops", "ddp-results/listops-lite"):
        assert {"softmax", "bn+sh"} <= {
            run["attention"] for run in json.loads((tmp_path / f"{name}.json").read_text())["runs"]
        }
