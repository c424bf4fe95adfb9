"""Keyed randomness: every draw is a function of (seed, purpose, epoch or step, item), never of what was drawn before.

That alone makes one clip sound the same at batch 1 and 8, two processes equal one, and a resumed training equal an
uninterrupted one. Numbers are drawn on the CPU whatever the device: a GPU's generator (Philox) draws others, and a
training could not go on, or be checked, elsewhere.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def keyed_seed(seed: int, purpose: str, epoch: int, item: int) -> int:
    """A seed that depends on all four parts of the key and on nothing else.

    torch's CPU generator uses 32 bits of it: among a million keys about a hundred pairs draw the same numbers.
    """
    key = f"{seed}/{purpose}/{epoch}/{item}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def keyed_generator(seed: int, purpose: str, epoch: int, item: int) -> torch.Generator:
    """A CPU generator seeded by the key, so that the same key draws the same numbers on every device."""
    return torch.Generator().manual_seed(keyed_seed(seed, purpose, epoch, item))


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch, keyed row by row.

    Args:
        seed: the seed of the whole run.
        epochs: (b,) how often each item has been seen before (-1 in evaluation, so that it always draws the same).
        items: (b,) the index of each item in its data set.
    """

    seed: int
    epochs: Sequence[int]
    items: Sequence[int]

    def __len__(self) -> int:
        return len(self.items)

    def generators(self, purpose: str) -> list[torch.Generator]:
        """One generator per row, fresh at every call: asking twice for one purpose draws the same numbers twice."""
        pairs = zip(self.epochs, self.items, strict=True)
        return [keyed_generator(self.seed, purpose, int(epoch), int(item)) for epoch, item in pairs]

    def normal(self, purpose: str, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Standard normal numbers (b, *shape), fp32."""
        return normal_rows(self.generators(purpose), shape, device)

    def uniform(self, purpose: str, shape: Sequence[int] = (), device: torch.device | str = "cpu") -> Tensor:
        """Numbers (b, *shape) uniform in [0, 1), fp32."""
        rows = [torch.rand(tuple(shape), generator=generator) for generator in self.generators(purpose)]
        return _put(torch.stack(rows), device)

    def integers(self, purpose: str, high: int, shape: Sequence[int] = ()) -> Tensor:
        """Integers (b, *shape) uniform in 0 .. high - 1, on the CPU."""
        rows = [torch.randint(high, tuple(shape), generator=generator) for generator in self.generators(purpose)]
        return torch.stack(rows)


def normal_rows(
    generators: Sequence[torch.Generator], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal numbers (b, *shape), row i drawn from generator i alone; b = 0 gives an empty tensor."""
    noise = torch.empty(len(generators), *shape)
    for row, generator in zip(noise, generators, strict=True):
        row.copy_(torch.randn(math.prod(shape), generator=generator).view(tuple(shape)))
    return _put(noise, device)


def _put(drawn: Tensor, device: torch.device | str) -> Tensor:
    """What was drawn, on `device`. From page-locked memory the CPU hands it to a GPU and goes on; else it would wait
    there for all that the GPU has still to do."""
    if torch.device(device).type == "cuda":
        return drawn.pin_memory().to(device, non_blocking=True)
    return drawn.to(device)
