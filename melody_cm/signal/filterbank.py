"""Kaldi's log-mel filter bank, which the public Audio Spectrogram Transformers were trained on."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.placement import in_fp32

FLOOR = torch.finfo(torch.float32).eps
LOWEST = 20.0  # Hz


class KaldiFilterBank(nn.Module):
    """Log-mels of 25 ms frames every 10 ms: offset removed, pre-emphasis 0.97, Hann window; no padding at the ends.

    Args:
        sample_rate: Hz.
        num_mels: bins from 20 Hz to half the sample rate.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int = 16000, num_mels: int = 128) -> None:
        super().__init__()
        self.length, self.hop_length = round(0.025 * sample_rate), round(0.01 * sample_rate)
        self.n_fft = 2 ** math.ceil(math.log2(self.length))
        window = torch.hann_window(self.length, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window.float(), persistent=False)
        filters = kaldi_filters(sample_rate, self.n_fft, num_mels)
        self.register_buffer("filters", filters.float(), persistent=False)

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l f"]:
        """l = 1 + (t - frame) // hop frames; what is shorter than one frame is followed by silence."""
        with in_fp32(waveform.device):
            waveform = waveform[:, 0].float()
            waveform = F.pad(waveform, (0, max(0, self.length - waveform.shape[-1])))
            frames = waveform.unfold(-1, self.length, self.hop_length)
            frames = frames - frames.mean(-1, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=self.n_fft)
            power = spectrum.real.square() + spectrum.imag.square()
            return (power @ self.filters).clamp(min=FLOOR).log()


def kaldi_filters(sample_rate: int, n_fft: int, num_mels: int) -> Float[Tensor, "bins mels"]:
    """Triangles of equal width on Kaldi's mel scale, 1127 ln(1 + f / 700), linear in mel and not in Hz."""
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    mels = 1127.0 * (1.0 + frequencies / 700.0).log()
    low, high = (1127.0 * math.log(1.0 + f / 700.0) for f in (LOWEST, sample_rate // 2))
    corners = torch.linspace(low, high, num_mels + 2, dtype=torch.float64)
    rising = (mels[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mels[:, None]) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0)
