import json

import torch

from hf_primaldual.measure import environment, save_results


def test_a_file_is_named_by_what_was_measured_and_on_what(tmp_path):
    path = save_results(tmp_path / "new", "layers 128x8", {"rows": [{"ms": 1.5}]})
    assert path.parent == tmp_path / "new"
    assert path.name.startswith("layers-128x8-")
    assert path.name.endswith(f"torch-{torch.__version__}.json".lower())
    saved = json.loads(path.read_text())
    assert saved["rows"] == [{"ms": 1.5}]
    assert saved["hardware"] == environment()["hardware"]
    assert saved["versions"]["torch"] == torch.__version__
