"""Small batches and a joint embedding without weights for the tests of the encoders."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import JointEmbedding

SAMPLE_RATE = 8000


class SpectrumEmbedding(JointEmbedding):
    """Audio: the first spectral magnitudes; texts: counts of letters."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = SAMPLE_RATE, 1.0, width
        self.scale = torch.nn.Parameter(torch.ones(()))

    def embed_audio(self, waveform: Tensor) -> Tensor:
        magnitudes = torch.fft.rfft(waveform[:, 0]).abs()[:, : self.width]
        return F.normalize(self.scale * magnitudes, dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        counts = [
            torch.bincount(torch.tensor(list(text.encode())) % self.width, minlength=self.width) for text in texts
        ]
        return F.normalize(self.scale * torch.stack(counts), dim=-1)


def music_batch(size: int = 4, samples: int = SAMPLE_RATE, **cached: Tensor) -> MusicBatch:
    return MusicBatch(
        item=torch.arange(size),
        epoch=torch.zeros(size, dtype=torch.long),
        waveform=torch.randn(size, 1, samples).clamp(-3, 3) / 3,
        frame_mask=torch.ones(size, samples, dtype=torch.bool),
        captions=[f"tune number {index}" for index in range(size)],
        **cached,
    )
