"""What generated tasks share: no example twice, and splits that are parts of one stream."""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from datasets import DatasetDict, Features

from .files import cached

DRAWS = 1_000_000
"""After so many draws in a row without anything new, all that there is has been drawn."""

Draw = Callable[[Any, random.Random], dict | None]
"""One try at an example of a specification: `input_ids`, each below 256, and `labels`; or None where it failed."""


def generate(draw: Draw, spec: Any, seed: int) -> Iterator[dict]:
    """Examples without end, none of them twice."""
    # Seeded by text: of a number the sign is ignored.
    rng = random.Random(f"{seed}")
    seen, failures = set(), 0
    while failures < DRAWS:
        failures += 1
        example = draw(spec, rng)
        if example is None:
            continue
        # A hundred thousand long examples would fill the memory, their digests do not.
        digest = hashlib.blake2b(np.asarray(example["input_ids"], np.uint8).tobytes(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            failures = 0
            yield example
    raise ValueError(f"{DRAWS} draws in a row gave no new example, after {len(seen)} of them; {spec} allows few")


def load_generated(draw: Draw, spec: Any, sizes: tuple[int, int, int], seed: int, features: Features) -> DatasetDict:
    """
    Splits `train`, `validation` and `test` of these sizes, from one stream that holds nothing twice.

    The stream is first the test set, then validation, then training: another number of training examples changes
    neither of the others. It is generated once and then lies in the cache of `datasets`.
    """
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"`sizes` must be at least 1 for each of train, validation and test, got {sizes}")
    train, validation, test = sizes
    held_out = test + validation
    parts = {"train": (held_out, held_out + train), "validation": (test, held_out), "test": (0, test)}
    return DatasetDict(
        {
            split: cached(_part, features, split, draw=draw, spec=spec, seed=seed, part=part)
            for split, part in parts.items()
        }
    )


def _part(draw: Draw, spec: Any, seed: int, part: tuple[int, int]) -> Iterator[dict]:
    yield from itertools.islice(generate(draw, spec, seed), *part)
