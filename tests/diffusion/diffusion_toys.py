"""Small denoisers whose velocity is known in closed form, and conditionings to call them with."""

import torch
from torch import nn

from melody_cm.interfaces import Conditioning, Denoiser, TimestepNetwork
from melody_cm.randomness import Draws


def no_conditioning(batch: int) -> Conditioning:
    return Conditioning(None, None, None, torch.zeros(batch, dtype=torch.bool))


def pooled_conditioning(batch: int) -> Conditioning:
    pooled = torch.linspace(-1, 1, batch * 3).reshape(batch, 3)
    return Conditioning(None, pooled, None, torch.zeros(batch, dtype=torch.bool))


def first_epoch(items) -> Draws:
    return Draws(seed=7, epochs=[0] * len(items), items=list(items))


def over_latent(angle, latent):
    """The angle shaped by hand: (b,) -> (b, 1, 1, ...), (b, l) -> (b, 1, l, ...)."""
    if angle.ndim == 1:
        return angle.view(-1, *[1] * (latent.ndim - 1))
    return angle.view(angle.shape[0], 1, angle.shape[1], *[1] * (latent.ndim - 3))


class ZeroDenoiser(Denoiser):
    per_frame_angles = True

    def forward(self, noisy_latent, angle, conditioning):
        return torch.zeros_like(noisy_latent)


class GaussianDenoiser(Denoiser):
    """The best predictor where the latent is white Gaussian with standard deviation `std`."""

    per_frame_angles = True

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, noisy_latent, angle, conditioning):
        cos, sin = over_latent(angle, noisy_latent).cos(), over_latent(angle, noisy_latent).sin()
        variance = self.std**2 * cos**2 + sin**2
        return noisy_latent * cos * sin * (1 - self.std**2) / variance


class PointDenoiser(Denoiser):
    """Exact where there is one latent only, everywhere `point`."""

    per_frame_angles = True

    def __init__(self, point: float) -> None:
        super().__init__()
        self.point = point

    def forward(self, noisy_latent, angle, conditioning):
        angle = over_latent(angle, noisy_latent)
        velocity = (angle.cos() * noisy_latent - self.point) / angle.sin()
        return torch.where(angle == 0, torch.zeros(()), velocity)


class LinearDenoiser(Denoiser):
    """Learnable, depends on everything it is given, and remembers its calls."""

    per_frame_angles = True

    def __init__(self, seed: int = 0, channels: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(0.5 * torch.randn(channels, channels, generator=generator))
        self.pooled_weight = nn.Parameter(torch.randn(3, channels, generator=generator))
        self.calls = []

    def forward(self, noisy_latent, angle, conditioning):
        self.calls.append((noisy_latent, angle, conditioning))
        mixed = torch.einsum("dc,bc...->bd...", self.weight, noisy_latent) * over_latent(angle, noisy_latent).add(0.3)
        if conditioning.pooled is None:
            return mixed
        known = conditioning.pooled * (~conditioning.dropped)[:, None]
        bias = known @ self.pooled_weight
        return mixed + bias.view(*bias.shape, *[1] * (noisy_latent.ndim - 2))


class OneAngleDenoiser(ZeroDenoiser):
    per_frame_angles = False


class WavyNetwork(TimestepNetwork):
    """A nonlinear function of latent and timestep; remembers the timesteps."""

    def __init__(self) -> None:
        super().__init__()
        self.timesteps = []

    def forward(self, noisy_latent, timestep, conditioning):
        self.timesteps.append(timestep)
        t = timestep.view(-1, *[1] * (noisy_latent.ndim - 1))
        return torch.sin(1.3 * noisy_latent + t / 300) + 0.2 * noisy_latent
