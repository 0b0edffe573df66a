"""The version of this package, and what a checkpoint of another one needs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

# The version of hf_primaldual that this file is of, which travels with checkpoints to where the package is not.
VERSION = "0.1.0"
# Early checkpoints could stand between softmax and their attention.
WAS_MOVED = (
    "an early version of this package moved its attention from softmax by a number among the weights, which this one "
    "does not read. Convert the original again, by `hf_primaldual.convert`."
)


def _as_numbers(version: str) -> tuple[int, ...]:
    """`0.10.2` as (0, 10, 2), for comparing; what follows the numbers counts for nothing."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def is_newer(saved: str | None) -> bool:
    """Whether a checkpoint was saved by a newer package than this."""
    return saved is not None and _as_numbers(saved) > _as_numbers(VERSION)


def needs(saved: str | None) -> str:
    """What an error says of a checkpoint of a newer package."""
    return (
        f"The checkpoint was saved by hf_primaldual {saved} and this is {VERSION}: install `hf_primaldual>={saved}`."
    )


@contextmanager
def naming_the_version(saved: str | None) -> Iterator[None]:
    """Adds to an error what a checkpoint of a newer package needs."""
    try:
        yield
    except ValueError as error:
        if not is_newer(saved):
            raise
        raise ValueError(f"{error} {needs(saved)}") from error


__all__ = ["VERSION", "WAS_MOVED", "is_newer", "naming_the_version", "needs"]
