"""Keeps the tests off the network and off the user's caches."""

import atexit
import gc
import os
import shutil
import tempfile

# Libraries of Hugging Face read these when they are imported, so they are set before any test module is.
_HF_HOME = tempfile.mkdtemp(prefix="hf_primaldual_tests_")
atexit.register(shutil.rmtree, _HF_HOME, ignore_errors=True)
os.environ["HF_HOME"] = _HF_HOME
os.environ["HF_HUB_OFFLINE"] = "1"
for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE", "TRANSFORMERS_CACHE"):
    # These would win over HF_HOME.
    os.environ.pop(name, None)

import pytest  # noqa: E402
import torch  # noqa: E402

# The tests' tensors are small: threads would mostly wait for each other, and for whatever else the machine does.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    # Not torch's own function: without a GPU it notes the whole stack of calls, for each kind of them.
    torch.default_generator.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _freeze():
    # What libraries, thousands of tests and the compiler's caches hold is there to the end. Trainer looks for garbage
    # after each run, which took longer than the training: no longer in what is there before a module's tests.
    gc.collect()
    gc.freeze()
