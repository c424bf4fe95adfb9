"""What one call of a pipeline is asked for, its random numbers, and how long its parts take."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.pipelines.splicing import check_music
from melody_cm.randomness import keyed_generator, normal_rows

MAX_PROMPT_SECONDS = 600


@dataclass(frozen=True)
class AudioPrompt:
    """Music in place of a text: what is made is to be like it, but does not continue it.

    Attributes:
        waveform: (1, 1, t) in [-1, 1].
        sample_rate: Hz.

    Raises:
        ValueError: silent, not finite, or longer than 10 minutes, all of which would be held in memory.
    """

    waveform: Float[Tensor, "1 1 t"]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.waveform.shape[-1] / self.sample_rate

    def __post_init__(self) -> None:
        if self.seconds > MAX_PROMPT_SECONDS:
            raise ValueError(
                f"an audio prompt of {self.seconds:.1f} s is too long to be held in memory; give at most "
                f"{MAX_PROMPT_SECONDS} s"
            )
        check_music(self.waveform, "the audio prompt")


Prompt = str | AudioPrompt


@dataclass(frozen=True)
class Request:
    """b clips to be made in one batch.

    Attributes:
        prompts: b texts, or music in place of them.
        seconds: length of every clip.
        keys: b pairs (seed, clip index); they alone decide every random number of a clip.
        num_steps: network calls of the sampler.
        guidance_scale: 1 = none.
    """

    prompts: Sequence[Prompt]
    seconds: float
    keys: Sequence[tuple[int, int]]
    num_steps: int
    guidance_scale: float

    def generators(self, purpose: str, window: int = 0) -> list[torch.Generator]:
        """One generator a clip, fresh at every call; `window` counts the pieces in which long music is made."""
        return [keyed_generator(seed, purpose, window, clip) for seed, clip in self.keys]

    def noise(self, shape: Sequence[int], device: torch.device, window: int = 0) -> Tensor:
        """The noise (b, *shape) that sampling starts from."""
        return normal_rows(self.generators("sampling noise", window), shape, device)

    def split(self, batch_size: int) -> "list[Request]":
        """The same clips in batches; a clip keeps its key, and so its sound.

        Raises:
            ValueError: batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        batches = [slice(start, start + batch_size) for start in range(0, len(self.prompts), batch_size)]
        return [replace(self, prompts=self.prompts[rows], keys=self.keys[rows]) for rows in batches]


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

    def lap(self) -> dict[str, float]:
        """The seconds by part since the last lap."""
        seconds, self.seconds = self.seconds, {}
        return seconds

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
