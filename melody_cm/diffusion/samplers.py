"""Noise -> latent: DDIM (MeLoDy, Algorithm 1) and few-step consistency sampling (MusicCM, section 3.3).

Known frames have angle 0 and are set again after every step, so continuation and inpainting are these same samplers.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.diffusion.process import clean_from_velocity, ddim_step, diffuse, over_latent
from melody_cm.interfaces import Angle, Conditioning, Denoiser, Known, Sampler
from melody_cm.placement import at_least_fp32
from melody_cm.randomness import normal_rows


def _check_known(denoiser: Denoiser, known: Known | None) -> None:
    if known is not None and not denoiser.per_frame_angles:
        raise ValueError("known frames need a denoiser with per_frame_angles, but this one takes one angle a clip")


def _impose(latent: Tensor, known: Known | None) -> Tensor:
    """The latent with its known frames set, bit for bit."""
    if known is None:
        return latent
    return torch.where(over_latent(known.frames, latent), known.latent, latent)


def _frame_angles(angle: Float[Tensor, " b"], known: Known | None) -> Angle:
    """One angle a clip; where frames are known, one a frame, 0 for those."""
    return angle if known is None else angle[:, None].masked_fill(known.frames, 0)


@dataclass(frozen=True)
class Step:
    """One step of sampling: where it begins and ends, and its fresh noise (b, c, *axes), if it takes any."""

    angle_from: Float[Tensor, " b"]
    angle_to: Float[Tensor, " b"]
    fresh: Tensor | None


class FramewiseSampler(Sampler):
    """A sampler whose steps move each frame by its own velocity: only the denoiser looks around, so that a long latent
    can be sampled from its beginning on (`SharedRestriction.sample_blocks`).

    `draws`: whether a step but the last needs fresh noise.
    """

    draws: bool = False

    @abstractmethod
    def move(self, noisy: Tensor, velocity: Tensor, step: Step) -> Tensor:
        """The latent (b, c, *axes) that the next step begins with, or the result where `step.fresh` is None."""

    def steps(
        self, noise: Tensor, angles: Float[Tensor, " num_steps_plus_one"], generators: Sequence[torch.Generator]
    ) -> Iterator[Step]:
        """The steps from each angle to the next."""
        levels = angles.to(noise.dtype).to(noise.device)[:, None].expand(-1, len(noise))
        for later, (angle_from, angle_to) in enumerate(pairwise(levels), 2 - len(levels)):
            fresh = normal_rows(generators, noise.shape[1:], noise.device) if self.draws and later < 0 else None
            yield Step(angle_from, angle_to, fresh)

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        conditioning: Conditioning,
        angles: Float[Tensor, " num_steps_plus_one"],
        generators: Sequence[torch.Generator],
        known: Known | None = None,
    ) -> Tensor:
        """The latent (b, c, *axes) after the last step; the first begins with `noise`."""
        _check_known(denoiser, known)
        latent = _impose(at_least_fp32(noise), known)
        for step in self.steps(latent, angles, generators):
            velocity = denoiser(latent, _frame_angles(step.angle_from, known), conditioning)
            latent = _impose(self.move(latent, velocity, step), known)
        return latent


class DDIMSampler(FramewiseSampler):
    """Deterministic: each step rotates the latent by the velocity predicted; no noise but the first is used."""

    def move(self, noisy: Tensor, velocity: Tensor, step: Step) -> Tensor:
        """The latent at `angle_to`."""
        return ddim_step(noisy, velocity, step.angle_from, step.angle_to)


class ConsistencySampler(FramewiseSampler):
    """Jumps to a clean latent at every angle and adds fresh noise to reach the next; none after the last jump."""

    draws = True

    def move(self, noisy: Tensor, velocity: Tensor, step: Step) -> Tensor:
        """The clean latent, with fresh noise but for the last time."""
        clean = clean_from_velocity(noisy, velocity, step.angle_from)
        return clean if step.fresh is None else diffuse(clean, step.fresh, step.angle_to)
