"""Bringing audio to the sample rate that an embedding wants."""

import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AudioEmbedding


def resample(waveform: Float[Tensor, "b 1 t"], sample_rate: int, target_rate: int) -> Float[Tensor, "b 1 resampled"]:
    """The waveform at `target_rate` Hz (soxr, HQ); the same tensor if it is there already."""
    if sample_rate == target_rate:
        return waveform
    channels_last = waveform[:, 0].detach().cpu().float().T.contiguous().numpy()
    resampled = soxr.resample(channels_last, sample_rate, target_rate, quality="HQ")
    return torch.from_numpy(resampled).T[:, None].contiguous().to(waveform)


@torch.no_grad()
def embed(embedding: AudioEmbedding, waveform: Float[Tensor, "b 1 t"], sample_rate: int) -> Float[Tensor, "b l d"]:
    """The embedding of audio at any sample rate (Hz)."""
    return embedding(resample(waveform, sample_rate, embedding.sample_rate))
