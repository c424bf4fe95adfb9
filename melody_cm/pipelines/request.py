"""What one call of a pipeline is asked for, its random numbers, and how long its parts take."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from melody_cm.randomness import keyed_generator, normal_rows


@dataclass(frozen=True)
class Request:
    """b clips to be made in one batch.

    Attributes:
        prompts: b texts.
        seconds: length of every clip.
        keys: b pairs (seed, clip index); they alone decide every random number of a clip.
        num_steps: network calls of the sampler.
        guidance_scale: 1 = none.
    """

    prompts: Sequence[str]
    seconds: float
    keys: Sequence[tuple[int, int]]
    num_steps: int
    guidance_scale: float

    def generators(self, purpose: str) -> list[torch.Generator]:
        """One generator a clip, fresh at every call."""
        return [keyed_generator(seed, purpose, 0, clip) for seed, clip in self.keys]

    def noise(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """The noise (b, *shape) that sampling starts from."""
        return normal_rows(self.generators("sampling noise"), shape, device)

    def split(self, batch_size: int) -> "Iterator[Request]":
        """The same clips in batches; a clip keeps its key, and so its sound."""
        for start in range(0, len(self.prompts), batch_size):
            rows = slice(start, start + batch_size)
            yield replace(self, prompts=self.prompts[rows], keys=self.keys[rows])


def clip_keys(seed: int | Sequence[int], count: int) -> list[tuple[int, int]]:
    """(seed, i) for clip i from one seed; (seed_i, 0) from a sequence of seeds, one a clip."""
    if isinstance(seed, int):
        return [(seed, clip) for clip in range(count)]
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} prompts; give one seed, or one for every prompt")
    return [(int(one), 0) for one in seed]


class Stopwatch:
    """Wall seconds by part; waits for the accelerator before it reads the clock.

    Args:
        device: where the work happens.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what happens inside to the part `name`."""
        start = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
