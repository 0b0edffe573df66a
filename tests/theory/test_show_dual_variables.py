"""The script that looks at a classifier as the regressions that it is."""

import importlib.util
from pathlib import Path

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "show_dual_variables.py"


def test_it_prints_a_line_for_each_head_and_draws_a_picture(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("show_dual_variables", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    config = PrimalDualTimeSeriesConfig(
        num_channels=6, num_attention_heads=4, num_hidden_layers=2, max_position_embeddings=100
    )
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(tmp_path)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=6).save_pretrained(tmp_path)

    picture = tmp_path / "dual.png"
    script.main(["--checkpoint", str(tmp_path), "--dataset", "BasicMotions", "--plot", str(picture)])
    printed = capsys.readouterr().out
    assert [printed.count(f"of {keys} keys") for keys in (100, 50)] == [4, 4]
    assert printed.count("head ") == 8
    assert picture.read_bytes().startswith(b"\x89PNG")
