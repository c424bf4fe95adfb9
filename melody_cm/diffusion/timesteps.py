"""Networks that know integer timesteps, or predict noise, as denoisers that know angles and predict velocity.

This is how diffusers U-Nets and public MusicLDM weights (arXiv 2308.01546) meet the samplers of this folder.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.diffusion.angles import ScaledLinearBetaAngles
from melody_cm.diffusion.process import velocity_from_noise
from melody_cm.interfaces import Angle, Conditioning, Denoiser, FeatureNetwork, TimestepNetwork

# An angle of the table itself may come back larger by half a unit in the last place of fp32.
_ROUNDING = 1e-6


class TimestepDenoiser(Denoiser, FeatureNetwork):
    """A timestep network as a denoiser; takes one angle a clip.

    Args:
        network: called at the timestep whose angle is nearest.
        schedule: the one it was trained with; its spacing does not matter here.
        prediction: what the network predicts.

    Raises:
        ValueError: a noise-predicting network is given a schedule with zero terminal SNR or an angle beyond its last
            timestep, where noise says nothing about the latent; or the angle is (b, l).
    """

    def __init__(
        self,
        network: TimestepNetwork,
        schedule: ScaledLinearBetaAngles,
        prediction: Literal["velocity", "noise"],
    ) -> None:
        super().__init__()
        if prediction == "noise" and schedule.zero_terminal_snr:
            raise ValueError("zero_terminal_snr is set, but needs a velocity network: this one predicts noise")
        self.network = network
        self.prediction = prediction
        self.feature_channels = network.feature_channels
        self.last_angle = float(schedule.table[-1])
        # Plain tensor, no buffer: buffers follow the network to half precision, where neighbouring angles coincide.
        self._midpoints = (schedule.table[1:] + schedule.table[:-1]) / 2

    def nearest_timestep(self, angle: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The whole numbers of the timesteps whose angles are nearest, 0 the cleanest."""
        if self._midpoints.device != angle.device:
            self._midpoints = self._midpoints.to(angle.device)
        return torch.bucketize(angle.double(), self._midpoints).float()

    def forward(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        self.check_angle(angle)
        predicted = self.network(noisy_latent, self.nearest_timestep(angle), conditioning)
        if self.prediction == "velocity":
            return predicted
        return velocity_from_noise(noisy_latent, predicted, angle)

    def features(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> list[Float[Tensor, "b c l"]]:
        self.check_angle(angle)
        return self.network.features(noisy_latent, self.nearest_timestep(angle), conditioning)

    def check_angle(self, angle: Tensor) -> None:
        """Refuse angles (b,) that the network cannot take: see the class."""
        if angle.ndim != 1:
            raise ValueError(
                f"angle has shape {tuple(angle.shape)}, but a timestep network takes one angle a clip: (b,)"
            )
        # Comparing waits for the device, so velocity networks, which need no limit, do not.
        if self.prediction == "noise" and (largest := float(angle.max())) > self.last_angle + _ROUNDING:
            raise ValueError(
                f"angle {largest:.4f} is beyond {self.last_angle:.4f}, the last of this noise-predicting network's own "
                "schedule: sample with that schedule, or use a velocity network"
            )
