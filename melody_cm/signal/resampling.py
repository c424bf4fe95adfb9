"""Bringing waveforms to another sample rate."""

import soxr
import torch
from jaxtyping import Float
from torch import Tensor


def resample(waveform: Float[Tensor, "b 1 t"], sample_rate: int, target_rate: int) -> Float[Tensor, "b 1 resampled"]:
    """The waveform at `target_rate` Hz (soxr, HQ); the same tensor if it is there already."""
    if sample_rate == target_rate:
        return waveform
    channels_last = waveform[:, 0].detach().cpu().float().T.contiguous().numpy()
    resampled = soxr.resample(channels_last, sample_rate, target_rate, quality="HQ")
    return torch.from_numpy(resampled).T[:, None].contiguous().to(waveform)
