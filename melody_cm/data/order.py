"""Which clips make up which batch: a function of (seed, position), so that no loader has a state to save."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler

from melody_cm.randomness import keyed_generator

Key = tuple[int, int]
EVALUATION_EPOCH = -1  # Not 0: item 3 of a held-back split shall not draw what item 3 drew in training.


@dataclass(eq=False)
class TrainingOrder(Sampler[list[Key]]):
    """An endless stream of batches of (epoch, item) keys.

    Position p of the stream is item `permutation(seed, epoch)[p % num_items]` of epoch `p // num_items`; micro-batch k
    holds positions k * batch_size to (k + 1) * batch_size - 1, of which each process takes its own run.
    """

    num_items: int  # Clips in the data set.
    batch_size: int  # Clips in a micro-batch over all processes; a multiple of num_processes.
    seed: int  # Of the permutations.
    first_batch: Callable[[], int] = int  # Asked at the start of each iteration for the micro-batch to begin with.
    rank: int = 0
    num_processes: int = 1  # How many share a micro-batch.

    def __post_init__(self) -> None:
        self.share = share_of(self.batch_size, self.num_processes)
        self._known: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __iter__(self) -> Iterator[list[Key]]:
        start = self.first_batch() * self.batch_size + self.rank * self.share
        while True:
            yield [self.key(position) for position in range(start, start + self.share)]
            start += self.batch_size

    def key(self, position: int) -> Key:
        """The (epoch, item) at a position of the stream."""
        epoch, place = divmod(position, self.num_items)
        if self._known[0] != epoch:
            generator = keyed_generator(self.seed, "order", epoch, 0)
            self._known = (epoch, torch.randperm(self.num_items, generator=generator).numpy())
        return epoch, int(self._known[1][place])


def evaluation_batches(items: Sequence[int], batch_size: int, rank: int = 0, num_processes: int = 1) -> list[list[Key]]:
    """Batches of (-1, item) keys in order; process `rank` takes every num_processes-th item, and none is repeated.

    `batch_size` counts the clips in a batch over all processes; the last ones may be smaller.
    """
    keys, share = [(EVALUATION_EPOCH, item) for item in items[rank::num_processes]], share_of(batch_size, num_processes)
    return [keys[start : start + share] for start in range(0, len(keys), share)]


def share_of(batch_size: int, num_processes: int) -> int:
    """Clips of a micro-batch for each process; a ValueError if the processes cannot share evenly."""
    if batch_size < 1 or batch_size % num_processes:
        raise ValueError(
            f"batch_size is {batch_size} for {num_processes} processes; it counts the clips of all of them: "
            "use a multiple of their number"
        )
    return batch_size // num_processes
