"""What the pipelines of other libraries share here: a checked request, one generator a clip, seconds by part."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.interfaces import GeneratedAudio, Pipeline
from melody_cm.pipelines.request import Stopwatch, clip_keys
from melody_cm.randomness import keyed_seed
from melody_cm.storage import hash_weights


class Baseline(Pipeline):
    """A text-to-music system of another library.

    Args:
        source: where its weights come from: a hub id, a folder, or "random".
        networks: its networks by name.
        parts: the modules whose calls make up the planner, the denoiser and the decoder.

    Attributes:
        random_weights: True for the published architecture without its weights: fit for measuring speed alone.
        num_steps, guidance_scale: used where a call gives none; a guidance scale of 1 is none.
    """

    num_steps: int
    guidance_scale: float

    def __init__(
        self, source: str, networks: Mapping[str, nn.Module], parts: Mapping[str, Sequence[nn.Module]]
    ) -> None:
        self.source = source
        self.random_weights = source == "random"
        self.networks = {name: network.eval() for name, network in networks.items()}
        self.parts = parts

    @abstractmethod
    def make(
        self, prompts: list[str], seconds: float, seeds: Sequence[int], num_steps: int, guidance_scale: float
    ) -> Float[Tensor, "b c _"]:
        """At least `seconds` of each clip, of one channel or more; clip i draws from seed i alone."""

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> GeneratedAudio:
        """One clip a prompt (see `Pipeline.generate`); channels are averaged.

        Raises:
            ValueError: no prompts, a length or a number of steps that this system cannot do, or sound that is no sound.
        """
        steps, scale = self._check(prompts, seconds, num_steps, guidance_scale)
        seeds = [keyed_seed(one, "baseline", 0, clip) for one, clip in clip_keys(seed, len(prompts))]
        stopwatch = Stopwatch(self.device)
        with torch.no_grad(), self._timed(stopwatch):
            waveform = self.make(list(prompts), seconds, seeds, steps, scale)
        cut = self._cut(waveform.float().mean(1, keepdim=True), round(seconds * self.sample_rate))
        return GeneratedAudio(cut, self.sample_rate, stopwatch.lap())

    def identity(self) -> dict[str, Any]:
        """What decides how it sounds, as plain data."""
        return {
            "class": type(self).__name__,
            "source": self.source,
            "weights": self.weight_hashes,
            "guidance_scale": self.guidance_scale,
        }

    @cached_property
    def weight_hashes(self) -> dict[str, str]:
        """The content hash of every network's weights; hashing takes seconds, so it is done once."""
        return {name: hash_weights(network) for name, network in self.networks.items()}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(parameter.device for network in self.networks.values() for parameter in network.parameters())

    def to(self, device: torch.device | str) -> "Baseline":
        """Move every network; returns the pipeline."""
        for network in self.networks.values():
            network.to(device)
        return self

    def check_steps(self, num_steps: int) -> None:
        """Refuse a number of steps that this system cannot do.

        Raises:
            ValueError: fewer than one.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; sampling takes at least 1 step")

    def _check(
        self, prompts: Sequence[str], seconds: float, num_steps: int | None, guidance_scale: float | None
    ) -> tuple[int, float]:
        if isinstance(prompts, str) or not prompts or not all(prompt.strip() for prompt in prompts):
            raise ValueError(f"prompts must be a non-empty list of non-empty texts, got {prompts!r}")
        if not 0 < seconds <= self.max_seconds:
            limit = f"{self.max_seconds:g}"
            raise ValueError(f"{seconds:g} seconds asked for, but {self._name} makes at most {limit}; ask for {limit}")
        steps = self.num_steps if num_steps is None else num_steps
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        self.check_steps(steps)
        if not (math.isfinite(scale) and scale >= 1):
            raise ValueError(f"guidance_scale is {scale}; give a finite number of at least 1, which is none")
        return steps, scale

    def _cut(self, waveform: Float[Tensor, "b 1 _"], length: int) -> Float[Tensor, "b 1 t"]:
        if waveform.shape[-1] < length:
            made = waveform.shape[-1]
            raise ValueError(f"{self._name} gave {made} samples of {length} asked for; ask for fewer seconds")
        if not waveform.isfinite().all():
            raise ValueError(f"{self._name} gave samples that are not finite; its weights are damaged")
        return waveform[..., :length].clamp(-1, 1)

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} ({self.source})"

    @contextmanager
    def _timed(self, stopwatch: Stopwatch) -> Iterator[None]:
        """Let every call of a part's modules count for that part; what happens between them counts for none."""
        handles, running = [], []

        def start(part: str) -> None:
            running.append(stopwatch.part(part))
            running[-1].__enter__()

        def stop(*_: Any) -> None:
            running.pop().__exit__(None, None, None)

        for part, modules in self.parts.items():
            for module in modules:
                handles.append(module.register_forward_pre_hook(lambda *_, part=part: start(part)))
                handles.append(module.register_forward_hook(stop))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for part in self.parts:
            stopwatch.seconds.setdefault(part, 0.0)
