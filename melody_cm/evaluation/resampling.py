"""Bringing audio to the sample rate that an embedding wants."""

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AudioEmbedding
from melody_cm.signal import resample


@torch.no_grad()
def embed(embedding: AudioEmbedding, waveform: Float[Tensor, "b 1 t"], sample_rate: int) -> Float[Tensor, "b l d"]:
    """The embedding of audio at any sample rate (Hz)."""
    return embedding(resample(waveform, sample_rate, embedding.sample_rate))
