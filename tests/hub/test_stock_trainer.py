"""What transformers' own Trainer pushes with `push_to_hub=True`, beside what our scripts do."""

import os
import subprocess
import sys

import pytest

from tests.hub.loopback.client import ROOT
from tests.hub.loopback.server import LoopbackHub
from tests.hub.test_downloads import load

pytestmark = [pytest.mark.slow, pytest.mark.hub_peers]

TRAIN = """
import shutil
import sys
from transformers import Trainer, TrainingArguments
from hf_primaldual import PrimalDualTimeSeriesFeatureExtractor
from hf_primaldual.hub.checkpoint import write_record
from tests.modeling.series import CHANNELS, series_batch, small_model

batch = series_batch()
examples = [{name: values[row] for name, values in batch.items()} for row in range(len(batch["labels"]))]
arguments = TrainingArguments(
    "out", max_steps=2, per_device_train_batch_size=2, push_to_hub=True, hub_model_id="tester/stock", use_cpu=True
)
extractor = PrimalDualTimeSeriesFeatureExtractor(CHANNELS)
trainer = Trainer(small_model(), arguments, train_dataset=examples, processing_class=extractor)
trainer.train()
trainer.push_to_hub()
trainer.save_model("saved")
shutil.copy(write_record("saved"), sys.argv[1])
"""


def test_its_push_loads_elsewhere_but_holds_a_pickle_which_ours_never_does(tmp_path):
    record = tmp_path / "record.safetensors"
    with LoopbackHub(tmp_path / "hub") as hub:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_test_write", "HF_HOME": str(tmp_path / "home")}
        environment |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
        # `upload_folder` keeps hf_xet's local store open while it commits, and only one process may open that.
        environment |= {"HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", TRAIN, record]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert hub.unknown == []
        pushed = hub.content("tester/stock")
        assert {"model.safetensors", "modeling_primal_dual_time_series.py", "preprocessor_config.json"} < set(pushed)
        # docs/hub.md tells of these two.
        assert "training_args.bin" in pushed
        assert "results.json" not in pushed
        head = hub.repositories["tester/stock"].branches["main"]
        stranger = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_test_read"}
        assert load([("tester/stock", {}, record, head)], tmp_path / "stranger", **stranger) == ["none"]
