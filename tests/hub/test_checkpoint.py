"""Building a checkpoint folder beside its place."""

import pytest

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.hub.checkpoint import save_checkpoint


def test_results_that_break_the_schema_leave_the_old_folder_whole(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_text("old weights")
    model = PrimalDualTimeSeriesForSequenceClassification(PrimalDualTimeSeriesConfig(hidden_size=8))
    with pytest.raises(ValueError, match="schema"):
        save_checkpoint(folder, model, PrimalDualTimeSeriesFeatureExtractor(), {"attention": "bn"})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "model.safetensors").read_text() == "old weights"
