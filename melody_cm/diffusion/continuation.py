"""Latents of any length: a window slides over the music, its past clean, its last chunk noise.

MeLoDy (arXiv 2305.15719), Algorithm 2. As printed it turns all frames of the window; here those that are finished have
angle 0 and are set again after every step, so that they never change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import Conditioning, Denoiser, Known, Sampler


@dataclass(frozen=True)
class Continuation:
    """How a latent goes on: one chunk at a time, at the cost of one sampling of the whole window.

    Attributes:
        sampler, angles: how noise becomes a latent.
        denoiser: with per-frame angles (the samplers refuse others).
        window: frames that the denoiser was trained on.
        chunk: frames by which the window slides.

    Raises:
        ValueError: a chunk that is no part of the window.
    """

    sampler: Sampler
    denoiser: Denoiser
    angles: Float[Tensor, " num_steps_plus_one"]
    window: int
    chunk: int

    def __post_init__(self) -> None:
        if not 0 < self.chunk < self.window:
            raise ValueError(f"a chunk of {self.chunk} frames must be shorter than its window of {self.window} frames")

    def num_kept(self, past_frames: int) -> int:
        """How many of the past's last frames the next window begins with: all but a chunk, if there are so many."""
        return min(past_frames, self.window - self.chunk)

    def next_frames(
        self,
        past: Float[Tensor, "b c k"],
        noise: Float[Tensor, "b c l"],
        conditioning: Conditioning,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "b c m"]:
        """The m = window - `num_kept(k)` frames after the past: one chunk, or more while the past is short.

        Args:
            past: the last frames so far; k = 0 begins the music.
            noise: of the whole window (l = window); its first frames are not used.
            conditioning: of the whole window, past and future.
            generators: of the sampler's fresh noise.
        """
        kept = self.num_kept(past.shape[-1])
        frames = torch.arange(self.window, device=noise.device) < kept
        latent = torch.zeros_like(noise)
        latent[..., :kept] = past[..., past.shape[-1] - kept :]
        known = Known(latent, frames.expand(len(noise), -1)) if kept else None
        window = self.sampler.sample(self.denoiser, noise, conditioning, self.angles, generators, known)
        return window[..., kept:]
