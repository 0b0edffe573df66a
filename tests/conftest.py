"""Keeps the tests off the network, off the user's caches and settings, and on the processor."""

import atexit
import gc
import os
import shutil
import tempfile

# Libraries of Hugging Face read these when they are imported, so they are set before any test module is.
_HF_HOME = tempfile.mkdtemp(prefix="hf_primaldual_tests_")
atexit.register(shutil.rmtree, _HF_HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_", "TRANSFORMERS_"))]:
    # A token, a mirror, another cache.
    del os.environ[name]
os.environ["HF_HOME"] = _HF_HOME
os.environ["HF_HUB_OFFLINE"] = "1"
# The test Hub is on this machine.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))
# Where tensors of the tests are made: `make gpu` sets it, and otherwise no test sees a GPU.
DEVICE = os.environ.get("TEST_DEVICE", "cpu")
if DEVICE == "cpu":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# The compiler's cache does not ask for which ATEN_CPU_CAPABILITY a program was made, and runs it under another one.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(_HF_HOME, "inductor")

import pytest  # noqa: E402
import torch  # noqa: E402

# The tests' tensors are small: threads would mostly wait for each other, and for whatever else the machine does.
torch.set_num_threads(1)
if DEVICE != "cpu":
    torch.set_default_device(DEVICE)


def pytest_make_parametrize_id(config, val, argname):
    """Processes must collect tests of the same names: bytes may hold a time, as those of gzip do."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _seed():
    # Not torch's own function: without a GPU it notes the whole stack of calls, for each kind of them.
    torch.default_generator.manual_seed(0)
    if DEVICE != "cpu":
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    # How long a model takes is nothing that a test asks: a few calls are as good as the many of a figure that counts.
    from hf_primaldual.measure import costs

    def interleaved(candidates, rounds, interleaved=costs.interleaved):
        return interleaved(candidates, rounds=min(rounds, 2), warmup=1)

    monkeypatch.setattr(costs, "interleaved", interleaved)


def _skip_unless(what, function, *inputs):
    """Skips where torch refuses a function of its own: nothing of ours is in it, whose faults would be hidden."""
    try:
        with torch.no_grad():
            function(*inputs)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        pytest.skip(f"torch has no {what} on this machine: {type(error).__name__}: {reason}")
    finally:
        torch._dynamo.reset()


@pytest.fixture(scope="session")
def compiler():
    """For tests of inductor, which needs a C++ compiler that works."""
    _skip_unless("compiled functions", torch.compile(torch.sin), torch.ones(4))


@pytest.fixture(scope="session")
def flex_attention():
    """For tests of FlexAttention, which on a CPU needs a compiler and AVX2."""
    from torch.nn.attention.flex_attention import flex_attention

    _skip_unless("FlexAttention", torch.compile(flex_attention), *torch.ones(3, 1, 1, 16, 16))


@pytest.fixture(scope="session")
def long_bfloat16():
    """For tests of sdpa in bfloat16 from 64 tokens on, where torch uses AMX also if ATEN_CPU_CAPABILITY hides it."""
    attention = torch.nn.functional.scaled_dot_product_attention
    _skip_unless("fused attention in bfloat16", attention, *torch.ones(3, 1, 1, 64, 16, dtype=torch.bfloat16))


@pytest.fixture(scope="module", autouse=True)
def _freeze():
    # What libraries, thousands of tests and the compiler's caches hold is there to the end. Trainer looks for garbage
    # after each run, which took longer than the training: no longer in what is there before a module's tests.
    gc.collect()
    gc.freeze()
