"""The machine and the versions a figure was measured with."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hf_primaldual import __version__

_WRITTEN = ("results", "model_cards")
_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "evaluate", "numpy")


def environment() -> dict[str, dict[str, Any]]:
    """
    Describe the hardware and the software, without host names, user names or paths.

    Returns:
        `{"hardware": ..., "versions": ...}`. `cores` are those this process may use, `threads` is torch's setting;
        `revision` is the git commit of this source tree, with `-dirty` behind it when tracked files differ from it,
        those apart that the programs themselves write. What is unknown or not installed is None.
    """
    hardware = {
        "processor": f"{_processor()} ({platform.machine()})",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    versions = {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "hf_primaldual": __version__,
        "revision": _revision(),
    }
    return {"hardware": hardware, "versions": versions}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    # Asking whether git tracks this very file keeps an installed copy from reporting the repository around it.
    file = Path(__file__)
    if shutil.which("git") is None or _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    place = _git(file.parent, "rev-parse", "HEAD", "--show-toplevel")
    # Before the first commit there is none.
    if place is None:
        return None
    commit, top = place.splitlines()
    # One of several runs must not count the results of those before it as a change.
    others = (f":(exclude){folder}" for folder in _WRITTEN)
    return commit + "-dirty" * bool(_git(Path(top), "diff", "--name-only", "HEAD", "--", ".", *others))


def _git(folder: Path, *arguments: str) -> str | None:
    answer = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None
