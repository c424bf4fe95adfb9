"""Log-mel -> waveform without a trained network: non-negative inverse mel, then Griffin-Lim with momentum.

Griffin and Lim (1984), with the momentum of Perraudin et al., "A fast Griffin-Lim algorithm" (2013).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.placement import in_fp32
from melody_cm.signal.mel import MelSettings, mel_filterbank
from melody_cm.signal.stft import istft, stft

MOMENTUM = 0.99
SMALLEST = 1e-8
NON_NEGATIVE_UPDATES = 10
# Frames. Music that is cut at multiples of it begins with the phases that it has as a whole.
PHASE_PERIOD = 256


def inverse_mel(mel: Float[Tensor, "b l f"], settings: MelSettings) -> Float[Tensor, "b l k"]:
    """Non-negative STFT magnitudes that have this log-mel: the clamped pseudo-inverse, refined by ten multiplicative
    updates of non-negative least squares (they take the round trip's error in the log-mel from 0.04 to 0.015)."""
    mel = mel.to(torch.promote_types(mel.dtype, torch.float32))
    filterbank = mel_filterbank(settings).to(mel)
    power = mel.exp()
    wanted = power @ filterbank
    magnitude = (power @ torch.linalg.pinv(mel_filterbank(settings)).to(mel).T).clamp(min=SMALLEST)
    for _ in range(NON_NEGATIVE_UPDATES):
        magnitude = magnitude * wanted / (F.linear(magnitude, filterbank) @ filterbank).clamp(min=SMALLEST**2)
    return magnitude


def griffin_lim(
    magnitude: Float[Tensor, "b l k"], hop_length: int, length: int, iterations: int
) -> Float[Tensor, "b t"]:
    """A waveform of t = `length` samples whose STFT has nearly these magnitudes.

    The first phases are random but always the same, and the same for every row, so that the result is a function of
    the magnitudes and a clip does not depend on its batch.
    """
    n_fft = 2 * (magnitude.shape[-1] - 1)
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(PHASE_PERIOD, magnitude.shape[2], generator=generator).to(magnitude)
    angle = angle[torch.arange(magnitude.shape[1], device=angle.device) % PHASE_PERIOD]
    phase = torch.polar(torch.ones_like(angle), angle)
    previous: Tensor | float = 0.0
    for _ in range(iterations):
        consistent = stft(istft(magnitude * phase, hop_length, length), n_fft, hop_length)
        ahead = consistent - MOMENTUM / (1 + MOMENTUM) * previous
        phase = ahead / ahead.abs().clamp(min=SMALLEST)
        previous = consistent
    return istft(magnitude * phase, hop_length, length)


def mel_to_waveform(mel: Float[Tensor, "b l f"], settings: MelSettings, iterations: int) -> Float[Tensor, "b 1 t"]:
    """The waveform of a log-mel, deterministic; t = l * hop_length samples."""
    # MelFrontEnd leaves out the frame at the very end; the last one stands in for it.
    with in_fp32(mel.device):
        magnitude = inverse_mel(torch.cat([mel, mel[:, -1:]], dim=1), settings)
        waveform = griffin_lim(magnitude, settings.hop_length, mel.shape[1] * settings.hop_length, iterations)
    return waveform[:, None]
