"""Noise -> latent: DDIM (MeLoDy, Algorithm 1) and few-step consistency sampling (MusicCM, section 3.3).

Known frames have angle 0 and are set again after every step, so continuation and inpainting are these same samplers.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.diffusion.consistency import ConsistencyFunction
from melody_cm.diffusion.process import ddim_step, diffuse
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
    frames = known.frames.reshape(len(latent), 1, -1, *[1] * (latent.ndim - 3))
    return torch.where(frames, known.latent, latent)


def _frame_angles(angle: Float[Tensor, " b"], known: Known | None) -> Angle:
    """One angle a clip; where frames are known, one a frame, 0 for those."""
    return angle if known is None else angle[:, None].masked_fill(known.frames, 0)


class DDIMSampler(Sampler):
    """Deterministic: each step rotates the latent by the velocity predicted; no noise but the first is used."""

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
        """The latent (b, c, *axes) at the last of the angles, which start where `noise` stands."""
        _check_known(denoiser, known)
        latent = _impose(at_least_fp32(noise), known)
        levels = angles.to(latent.dtype).to(latent.device)[:, None].expand(-1, len(latent))
        for angle_from, angle_to in pairwise(levels):
            velocity = denoiser(latent, _frame_angles(angle_from, known), conditioning)
            latent = _impose(ddim_step(latent, velocity, angle_from, angle_to), known)
        return latent


class ConsistencySampler(Sampler):
    """Jumps to a clean latent at every angle and adds fresh noise to reach the next; none after the last jump."""

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
        """The clean latent (b, c, *axes) predicted at the last angle but one."""
        _check_known(denoiser, known)
        consistency = ConsistencyFunction(denoiser)
        noisy = _impose(at_least_fp32(noise), known)
        first, *later = angles[:-1].to(noisy.dtype).to(noisy.device)[:, None].expand(-1, len(noisy))
        clean = _impose(consistency(noisy, _frame_angles(first, known), conditioning), known)
        for angle in later:
            fresh_noise = normal_rows(generators, noise.shape[1:], noise.device)
            noisy = _impose(diffuse(clean, fresh_noise, angle), known)
            clean = _impose(consistency(noisy, _frame_angles(angle, known), conditioning), known)
        return clean
