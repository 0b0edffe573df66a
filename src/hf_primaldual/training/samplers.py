"""In which order a training set is drawn. It follows from the seed that torch was given last and the epoch alone."""

from collections.abc import Iterator, Sized

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler

from hf_primaldual.data.splits import column_of

_BATCHES = 50


class LengthSampler(Sampler[int]):
    """
    Draws every example once an epoch, so that those of a batch are of like length and little is padded.

    A random order is cut into groups of 50 batches, each group sorted by length and cut into batches, and the batches
    put into a random order. (transformers' own `LengthGroupedSampler` leaves them sorted, and cannot be resumed within
    an epoch.) The data have a column `length`; `batch` examples make a step, of all processes together.
    """

    def __init__(self, data: Dataset, batch: int):
        self.lengths, self.batch = column_of(data, "length").to_numpy(), batch
        self.seed, self.epoch = torch.initial_seed(), 0

    def set_epoch(self, epoch: int) -> None:
        """Accelerate calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        size = _BATCHES * self.batch
        groups = (order[start : start + size] for start in range(0, len(order), size))
        order = np.concatenate([group[np.argsort(self.lengths[group], kind="stable")] for group in groups])
        whole = len(order) // self.batch * self.batch
        batches = rng.permutation(order[:whole].reshape(-1, self.batch))
        # Last comes what fills no batch.
        return iter([*batches.ravel().tolist(), *order[whole:].tolist()])


class RepeatedSampler(Sampler[int]):
    """
    DeiT's repeated augmentation: in an epoch a third of the images (for 3 `repeats`), each drawn 3 times.

    The copies of an image go to different processes where there are several: among the batches that the processes
    take at the same time, process p gets the places p, p + processes, ... of the repeated order, as in DeiT. Every
    process makes the whole order; Accelerate hands out the batches of `batch_size`. The seed and the epoch are written
    into `clock` (2,) for others to see.
    """

    def __init__(self, data: Sized, repeats: int, batch_size: int, processes: int, clock: torch.Tensor):
        self.data, self.repeats, self.batch_size, self.processes = data, repeats, batch_size, processes
        self.seed, self.clock = torch.initial_seed() % 2**32, clock
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Accelerate calls it before each epoch."""
        self.epoch = epoch
        self.clock.copy_(torch.tensor([self.seed, epoch]))

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.data), generator=generator).repeat_interleave(self.repeats)[: len(self)]
        for together in order.split(self.batch_size * self.processes):
            for process in range(self.processes):
                yield from together[process :: self.processes].tolist()
