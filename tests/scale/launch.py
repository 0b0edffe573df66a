"""Starts two processes as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def two_processes(*arguments: str) -> subprocess.CompletedProcess:
    """Runs a program twice, from the root of the repository, and waits for its end; after ten minutes it ends them."""
    command = ["bash", "scripts/launch/two_cpu_processes.sh", *map(str, arguments)]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
        try:
            stdout, stderr = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
