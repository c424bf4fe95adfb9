"""Log-mel statistics as an audio embedding: no weights, the same on every machine.

Patches have the geometry of VGGish (arXiv 1609.09430): 96 frames of 10 ms, without overlap, 125-7500 Hz at 16 kHz.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AudioEmbedding, EmbeddingIdentity
from melody_cm.signal import MelFrontEnd, MelSettings

VERSION = "1"
SAMPLE_RATE = 16000
HOP_LENGTH = 160
PATCH_FRAMES = 96
# About 55 dB below a full-scale tone: what is quieter, like dither and codec noise, counts as silence.
FLOOR = 1e-3


class LogMelEmbedding(AudioEmbedding):
    """Mean and standard deviation of every log-mel band over patches of 0.96 s.

    It hears loudness, tone colour and how much they move; not harmony, rhythm or quality of performance. Distances in
    it are never plain FAD.

    Args:
        num_bands: mel bands; the width d is twice as large. 16 keeps "too few clips" (n < 2 d) at 64.

    Raises:
        ValueError: a waveform shorter than one patch.
    """

    def __init__(self, num_bands: int = 16) -> None:
        super().__init__()
        if not 1 <= num_bands <= 32:
            raise ValueError(f"num_bands is {num_bands}; 1 to 32 keep the embedding small (d <= 64)")
        self.identity = EmbeddingIdentity(
            name="logmel",
            version=f"{VERSION}-{num_bands}bands",
            weights="none",
            sample_rate=SAMPLE_RATE,
            window="0.96 s patches without overlap",
            width=2 * num_bands,
            trained=False,
        )
        self.front_end = MelFrontEnd(MelSettings(SAMPLE_RATE, 512, HOP_LENGTH, num_bands, 125.0, 7500.0))

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        patches = waveform.shape[-1] // (PATCH_FRAMES * HOP_LENGTH)
        if patches == 0:
            needed = PATCH_FRAMES * HOP_LENGTH / SAMPLE_RATE
            raise ValueError(f"{waveform.shape[-1] / SAMPLE_RATE:.2f} s of audio; logmel needs at least {needed:g} s")
        mel = self.front_end(waveform).clamp_min(math.log(FLOOR))
        frames = mel[:, : patches * PATCH_FRAMES].unflatten(1, (patches, PATCH_FRAMES))
        return torch.cat([frames.mean(2), frames.std(2)], dim=-1)
