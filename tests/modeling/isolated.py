"""Scripts in processes that know nothing of this repository."""

import os
import subprocess
import sys
from pathlib import Path

import torch

# The package may be installed for development in the environment that runs the tests: it is hidden.
PREAMBLE = """
import sys

class _Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_primaldual":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, _Hide())
try:
    import hf_primaldual
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("the package can be imported")
"""


def run_isolated(script: str, folder: Path, *arguments, hide: bool = True) -> str:
    """
    Runs a script with `python -I` in an empty working directory of its own with caches of its own.

    Returns:
        What it printed.
    """
    working_directory, home = folder / "empty", folder / "home"
    working_directory.mkdir()
    process = subprocess.run(
        [sys.executable, "-I", "-c", (PREAMBLE if hide else "") + script, *map(str, arguments)],
        cwd=working_directory,
        # As many threads as here: with others, sums are rounded in another order.
        env={
            **os.environ,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout
