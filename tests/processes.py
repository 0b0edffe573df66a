"""
Processes of their own for tests. They have imported what takes long and asks nothing of its surroundings, torch, scipy
and pyarrow, and nothing of Hugging Face, which reads its variables when it is imported.
"""

import multiprocessing
import os
import sys

PRELOADED = ["torch._dynamo", "scipy.optimize", "pyarrow.dataset"]


def forking() -> multiprocessing.context.BaseContext:
    """Of processes forked off one that has imported `PRELOADED`: there is one such for each process of tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def begin(environment: dict[str, str]) -> None:
    """To be called first in such a process: the variables that it would have been started with."""
    assert "huggingface_hub" not in sys.modules
    os.environ.clear()
    os.environ.update(environment)
    import torch

    # OMP_NUM_THREADS was read when torch was imported.
    torch.set_num_threads(1)
