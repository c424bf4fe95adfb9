"""What a pipeline is asked for, and the clips of one batch with their random numbers and their clock."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.randomness import keyed_generator, normal_rows
from melody_cm.signal.levels import SILENT_PEAK

MAX_PROMPT_SECONDS = 600
NO_NEGATIVE_PROMPT = (
    "a negative prompt has nothing to act on: guidance moves away from music without any prompt, and a student has "
    "that built in; say in the prompt what is wanted"
)
Windows = Literal["shared", "independent"]


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
    """What a pipeline is asked for. `prompt_at`, `loop` and `windows` are for MusicCM only.

    Attributes:
        prompts: one or several; each makes a clip and is a text or an `AudioPrompt`. Without any, given music is its
            own prompt.
        seconds: length of every clip, including the music given to `continue_from`; `inpaint` needs none.
        seed: an int seeds clip i by (seed, i); a sequence gives each clip its own seed.
        num_steps: network calls of the sampler; None for the pipeline's own number.
        guidance_scale: 1: no guidance; None for the pipeline's own.
        prompt_at: (seconds, text), ascending: the prompt from that time on; before the first, the clip's own prompt.
        loop: the end leads back into the beginning.
        windows: "shared" windows overlap and agree; "independent" ones lie side by side, which is the baseline.
        negative_prompt: not supported; refused with the reason.
        progress: True shows a bar of the denoising steps; a function is called after each with (step, num_steps). Long
            music made piece by piece begins at step 1 again for each piece; systems without a denoiser do not call it.

    Raises:
        ValueError: prompts that are no list of texts, times that do not ascend from 0 or later, empty texts, a loop of
            independent windows, or a negative prompt.
    """

    prompts: Sequence[Prompt] | Prompt = ()
    seconds: float | int | None = None
    seed: int | Sequence[int] = 0
    num_steps: int | None = None
    guidance_scale: float | int | None = None
    prompt_at: Sequence[tuple[float | int, str]] = ()
    loop: bool = False
    windows: Windows = "shared"
    negative_prompt: str | None = None
    progress: bool | Callable[[int, int], Any] = False

    def __post_init__(self) -> None:
        if isinstance(self.prompts, str | AudioPrompt):
            object.__setattr__(self, "prompts", [self.prompts])
        if any(isinstance(each, str) and not each.strip() for each in self.prompts):
            raise ValueError(f"prompts must be texts that are not empty, got {self.prompts!r}")
        if self.negative_prompt is not None:
            raise ValueError(NO_NEGATIVE_PROMPT)
        times = [seconds for seconds, _ in self.prompt_at]
        if not all(0 <= seconds < math.inf for seconds in times) or any(a >= b for a, b in pairwise(times)):
            raise ValueError(f"prompts at {', '.join(f'{each:g}' for each in times)} s: give ascending times from 0 on")
        if empty := [seconds for seconds, text in self.prompt_at if not text.strip()]:
            raise ValueError(f"the prompt at {empty[0]:g} s is empty; give a text")
        if self.windows not in ("shared", "independent"):
            raise ValueError(f"windows are {self.windows!r}; give shared or independent")
        if self.loop and self.windows == "independent":
            raise ValueError("independent windows make no loop: none knows its neighbour; use shared windows")

    def arrangement(self) -> dict[str, object]:
        """What differs from plain music, as plain data."""
        given = {
            "prompt_at": [list(each) for each in self.prompt_at],
            "loop": self.loop,
            "windows": self.windows if self.windows != "shared" else None,
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, kw_only=True)
class Batch(Request):
    """A request that was checked and filled in, or a part of one: the clips that are made at once."""

    seconds: float
    num_steps: int
    guidance_scale: float
    # (seed, clip index) of each clip; they alone decide every random number of the clip.
    keys: Sequence[tuple[int, int]]
    device: torch.device
    stopwatch: "Stopwatch"  # Says how long the parts take.

    def generators(self, purpose: str, window: int = 0) -> list[torch.Generator]:
        """One generator a clip, fresh at every call; `window` counts the pieces in which long music is made."""
        return [keyed_generator(seed, purpose, window, clip) for seed, clip in self.keys]

    def noise(self, shape: Sequence[int], window: int = 0) -> Tensor:
        """The noise (b, *shape) that sampling starts from."""
        return normal_rows(self.generators("sampling noise", window), shape, self.device)

    def part(self, name: str) -> AbstractContextManager[None]:
        """What happens inside is counted as the part `name` of the work."""
        return self.stopwatch.part(name)

    def split(self, batch_size: int) -> "list[Batch]":
        """The same clips in batches of at least 1; a clip keeps its key, and so its sound."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        rows = [slice(start, start + batch_size) for start in range(0, len(self.prompts), batch_size)]
        return [
            replace(self, prompts=self.prompts[these], keys=self.keys[these], stopwatch=Stopwatch(self.device))
            for these in rows
        ]


def clip_keys(seed: int | Sequence[int], count: int) -> list[tuple[int, int]]:
    """(seed, i) for clip i from one seed; (seed_i, 0) from a sequence of seeds, one a clip."""
    if isinstance(seed, int):
        return [(seed, clip) for clip in range(count)]
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} prompts; give one seed, or one for every prompt")
    return [(int(one), 0) for one in seed]


def check_music(waveform: Float[Tensor, "b 1 t"], what: str) -> None:
    """Refuse with a ValueError what is empty, silent or not finite; the message begins with `what` it is."""
    if not waveform.shape[-1]:
        raise ValueError(f"{what} has 0 samples; give at least 1")
    if not waveform.isfinite().all():
        raise ValueError(f"{what} has samples that are NaN or infinite; mend or replace it")
    if (waveform.abs().flatten(1).amax(1) < SILENT_PEAK).any():
        raise ValueError(f"{what} is silent, no sample above {SILENT_PEAK:g}; give music that can be heard")


@dataclass
class Stopwatch:
    """Wall seconds by part; waits for the accelerator before it reads the clock."""

    device: torch.device  # Where the work happens.
    seconds: dict[str, float] = field(default_factory=dict)  # By part, since the last lap.

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what happens inside to the part `name`, but for what other parts in it count."""
        start, before = self._now(), sum(self.seconds.values())
        yield
        own = self._now() - start - (sum(self.seconds.values()) - before)
        self.seconds[name] = self.seconds.get(name, 0.0) + own

    def lap(self) -> dict[str, float]:
        """The seconds by part since the last lap."""
        seconds, self.seconds = self.seconds, {}
        return seconds

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
