"""
A comparison in a process of its own that has an accident.

    kill      SIGKILL in the middle of the training step number COUNT, counted over all runs
    save      SIGKILL while the checkpoint number COUNT is being written: half of its last file is there
    full      the disk is full when the checkpoint number COUNT is written: a file `filler` takes the room
    record    SIGKILL when run number COUNT has ended and is about to be written down
    none      no accident

The tests fork it off (`have_accident`); on a file system of its own it is `python -m tests.training.accident`.
"""

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

from transformers import Trainer, TrainerState

from tests.processes import forking
from tests.scripts import load_script

compare = load_script("run_time_series_classification").main


def have_accident(kind: str, count: int, flags: list[str], log: Path) -> int:
    """Compares in a forked process, whose messages go to `log`, and returns its exit code."""
    process = forking().Process(target=_work, args=(kind, count, flags, log))
    process.start()
    process.join()
    return process.exitcode


def _work(kind: str, count: int, flags: list[str], log: Path) -> None:
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _prepare(kind, count, flags)
    compare(flags)


def _prepare(kind: str, count: int, flags: list[str]) -> None:
    """Lets the accident happen at its time."""
    counter = itertools.count(1)

    def at_count(accident, method, counts=lambda *args: True):
        def call(*args):
            if counts(*args) and next(counter) == count:
                accident(*args)
            return method(*args)

        return call

    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    def write_half(state, path):
        write(state, path)
        os.truncate(path, Path(path).stat().st_size // 2)
        die()

    def fill(*args):
        folder = Path(flags[flags.index("--output_dir") + 1])
        with open(folder / "filler", "wb", buffering=0) as filler:
            while free := shutil.disk_usage(folder).free:
                filler.write(bytes(min(free, 2**16)))

    if kind == "kill":
        # After the gradients, before the optimizer has used them.
        Trainer.training_step = at_count(die, Trainer.training_step)
    elif kind == "save":
        write = TrainerState.save_to_json
        TrainerState.save_to_json = at_count(write_half, write)
    elif kind == "record":
        # Of the calls that save a run's model at its end, and not a checkpoint.
        Trainer.save_model = at_count(die, Trainer.save_model, lambda *args: not args[-1])
    elif kind == "full":
        Trainer._save_checkpoint = at_count(fill, Trainer._save_checkpoint)


if __name__ == "__main__":
    _prepare(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    compare(sys.argv[3:])
