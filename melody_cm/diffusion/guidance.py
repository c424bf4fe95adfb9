"""Classifier-free guidance of a denoiser (MeLoDy section 4.2.2; inside MusicCM's solver, equations 5-6)."""

import torch
from torch import Tensor

from melody_cm.interfaces import Angle, Conditioning, Denoiser
from melody_cm.placement import at_least_fp32


class Guided(Denoiser):
    """A denoiser that moves away from its unconditional velocity: `uncond + guidance_scale * (cond - uncond)`.

    Both velocities come from one network call on twice the batch. Clean latent, noise and DDIM step are affine in the
    velocity with weights that sum to one, so that guiding any of them is guiding all.

    Args:
        denoiser: trained with and without conditioning.
        guidance_scale: 1 is no guidance and one plain call; 0 is unconditional.
    """

    def __init__(self, denoiser: Denoiser, guidance_scale: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.guidance_scale = guidance_scale
        self.per_frame_angles = denoiser.per_frame_angles

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        if self.guidance_scale == 1:
            return self.denoiser(noisy_latent, angle, conditioning)
        twice = conditioning.concat(conditioning.drop_all())
        both = self.denoiser(torch.cat([noisy_latent, noisy_latent]), torch.cat([angle, angle]), twice)
        conditional, unconditional = at_least_fp32(both).chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)
