"""What the pipelines of other libraries share here: a checked request, one seed a clip, seconds by part."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.audio import GeneratedAudio
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines.request import Batch, Request, Stopwatch, clip_keys
from melody_cm.placement import Placement
from melody_cm.randomness import keyed_seed
from melody_cm.storage import hash_weights


class Baseline(Pipeline):
    """A text-to-music system of another library.

    Args:
        source: where its weights come from: a hub id, a folder, or "random".
        networks: its networks by name.

    Attributes:
        random_weights: True for the published architecture without its weights: fit for measuring speed alone.
        num_steps, guidance_scale: used where a call gives none; a guidance scale of 1 is none.
        timed: by part, planner, denoiser and decoder, the modules that do its work: "vae.decoder" is that of "vae".
    """

    num_steps: int
    guidance_scale: float
    timed: Mapping[str, Sequence[str]]

    def __init__(self, source: str, networks: Mapping[str, nn.Module]) -> None:
        self.source = source
        self.random_weights = source == "random"
        self.networks = {name: network.eval() for name, network in networks.items()}

    @classmethod
    @abstractmethod
    def load(cls, source: str) -> "Baseline":
        """From a hub id or a folder."""

    @classmethod
    @abstractmethod
    def random(cls, sizes: Mapping[str, Mapping[str, Any]] | None = None) -> "Baseline":
        """The published architecture, or one of other sizes, with random weights."""

    @abstractmethod
    def make(self, batch: Batch, seeds: Sequence[int]) -> Float[Tensor, "b c _"]:
        """At least `batch.seconds` of each clip, of one channel or more; clip i draws from seed i alone."""

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
        batch = self.batch(Request(prompts, seconds, seed, num_steps, guidance_scale))
        seeds = [keyed_seed(one, "baseline", 0, clip) for one, clip in batch.keys]
        with self.placement.computing(), self._timed(batch.stopwatch):
            waveform = self.make(batch, seeds).float().mean(1, keepdim=True)
        length = round(seconds * self.sample_rate)
        if waveform.shape[-1] < length or not waveform.isfinite().all():
            raise ValueError(f"{self._name} gave fewer than {length} finite samples; its weights are damaged")
        return GeneratedAudio(waveform[..., :length].clamp(-1, 1), self.sample_rate, batch.stopwatch.lap())

    def batch(self, request: Request) -> Batch:
        """The request with this system's own numbers where it has none.

        Raises:
            ValueError: what this system cannot make.
        """
        if not request.prompts:
            raise ValueError("there is no prompt; give a list of texts that is not empty")
        if not 0 < request.seconds <= self.max_seconds:
            asked, limit = f"{request.seconds:g}", f"{self.max_seconds:g}"
            raise ValueError(f"{asked} seconds asked for, but {self._name} makes at most {limit}; ask for {limit}")
        steps = self.num_steps if request.num_steps is None else request.num_steps
        scale = self.guidance_scale if request.guidance_scale is None else request.guidance_scale
        if steps < 1:
            raise ValueError(f"num_steps is {steps}; sampling takes at least 1 step")
        if not (math.isfinite(scale) and scale >= 1):
            raise ValueError(f"guidance_scale is {scale}; give a finite number of at least 1, which is none")
        return Batch(
            **vars(request) | {"num_steps": steps, "guidance_scale": scale},
            keys=clip_keys(request.seed, len(request.prompts)),
            device=self.device,
            stopwatch=Stopwatch(self.device),
        )

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
    def placement(self) -> Placement:
        """Where the networks are, and in which precision they compute."""
        return Placement.of(self.networks.values())

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.placement.device

    def to(self, device: torch.device | str, dtype: torch.dtype | str | None = None) -> "Baseline":
        """As `PretrainedPipeline.to`."""
        self.placement.moved(device, dtype).put(self.networks.values())
        return self

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} ({self.source})"

    @contextmanager
    def _timed(self, stopwatch: Stopwatch) -> Iterator[None]:
        """Let every call of a part's modules count for that part; what happens between them counts for none."""
        modules = []
        for part, names in self.timed.items():
            for name in names:
                network, _, inside = name.partition(".")
                modules.append(attrgetter(inside)(self.networks[network]) if inside else self.networks[network])
                modules[-1].forward = stopwatch.part(part)(modules[-1].forward)
        try:
            yield
        finally:
            for module in modules:
                del module.forward
