"""Checkpoints of a training in progress that are whole or do not count.

Trainer writes a checkpoint file by file into its place. A process that dies meanwhile leaves a folder that looks like
a checkpoint and is none; so the last file written is a list of all others with their sizes, and a folder without it,
or with a file of another size, is passed over.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.utils import gather_object
from transformers.trainer_utils import sort_checkpoints

MANIFEST = "whole.json"


def seal(checkpoint: Path) -> None:
    """Writes the list of a checkpoint's files, after they have reached the disk."""
    sizes = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            sizes[str(path.relative_to(checkpoint))] = path.stat().st_size
            _to_disk(path)
    temporary = checkpoint / f".{MANIFEST}"
    temporary.write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
    _to_disk(temporary)
    temporary.rename(checkpoint / MANIFEST)
    _to_disk(checkpoint)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of the list that was written last is there with its size."""
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        return False
    sizes = json.loads(manifest.read_text(encoding="utf-8"))
    return all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == size for name, size in sizes.items()
    )


def last_whole_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint in the folder of a run, by its step; None where there is none."""
    whole = [Path(path) for path in sort_checkpoints(str(run)) if is_whole(Path(path))] if run.is_dir() else []
    return whole[-1] if whole else None


def clear_broken_checkpoints(run: Path) -> None:
    """Removes what a process that died left of a checkpoint that it was writing, or removing."""
    for path in map(Path, sort_checkpoints(str(run)) if run.is_dir() else []):
        if not is_whole(path):
            shutil.rmtree(path)


@contextmanager
def together(what: str) -> Iterator[None]:
    """
    A step that every process takes, writing files. Where it fails in one of them, it fails in all of them, at once:
    otherwise the others would wait for it until `ddp_timeout`.

    Args:
        what: the step, for the error.

    Raises:
        OSError: in the processes that were well, with the number of the one that failed and its error. That one
            raises its own.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    said = None if failure is None else f"{type(failure).__name__}: {failure}"
    # What waits for all processes too.
    errors = gather_object([said])
    if failure is not None:
        raise failure
    for process, error in enumerate(errors):
        if error is not None:
            raise OSError(errno.ECANCELED, f"process {process} failed, and all end with it: {what}: {error}")


def _to_disk(path: Path) -> None:
    """What was written is safe from a power cut only once the disk has it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["MANIFEST", "clear_broken_checkpoints", "is_whole", "last_whole_checkpoint", "seal", "together"]
