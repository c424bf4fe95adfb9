"""A vocoder that works at the rate of the frames: ConvNeXt blocks and an inverse STFT (Vocos, arXiv 2306.00814)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.interfaces import Vocoder
from melody_cm.placement import in_fp32, keep_fp32
from melody_cm.signal import MelSettings, istft

MAX_MAGNITUDE = 100.0


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time and two linear layers, added to the input by a learned gain a channel.

    Args:
        width: d.
        hidden_width: between the linear layers.
        kernel: frames, odd.
        gain: of each channel at first.
    """

    def __init__(self, width: int, hidden_width: int, kernel: int, gain: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        hidden = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return x + self.gain * self.contract(F.gelu(self.expand(hidden)))


class ISTFTVocoder(Vocoder):
    """Magnitude and phase of each frame, and the waveform by one inverse transform: no upsampling, so no hum of it.

    Deterministic, and local: a sample depends on the mel of at most
    (num_blocks + 1) * (kernel // 2) frames around its own. Magnitude, phase and transform are computed in fp32.

    Args:
        sample_rate: Hz.
        n_fft, hop_length: samples; also of the inverse transform.
        num_mels: bins f.
        f_min, f_max: Hz.
        width, hidden_width, num_blocks, kernel: of the ConvNeXt blocks.
        mel_mean, mel_std: the network sees (log-mel - mel_mean) / mel_std.

    Raises:
        ValueError: an even kernel.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        num_mels: int,
        f_min: float,
        f_max: float,
        width: int = 512,
        hidden_width: int = 1536,
        num_blocks: int = 8,
        kernel: int = 7,
        mel_mean: float = -4.0,
        mel_std: float = 4.0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} must be odd to keep the number of frames; use {kernel + 1}")
        self.mel_settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        self.sample_rate = sample_rate
        self.mel_mean, self.mel_std = mel_mean, mel_std
        self.input = nn.Conv1d(num_mels, width, kernel, padding=kernel // 2)
        self.input_norm = nn.LayerNorm(width, eps=1e-6)
        blocks = (ConvNeXtBlock(width, hidden_width, kernel, gain=1 / num_blocks) for _ in range(num_blocks))
        self.blocks = nn.Sequential(*blocks)
        self.output_norm = nn.LayerNorm(width, eps=1e-6)
        self.output = keep_fp32(nn.Linear(width, n_fft + 2))

    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform, t = l * hop_length samples."""
        scaled = (mel - self.mel_mean) / self.mel_std
        hidden = self.input_norm(self.input(scaled.transpose(1, 2)).transpose(1, 2))
        spectrum = self.output(self.output_norm(self.blocks(hidden)))
        with in_fp32(mel.device):
            log_magnitude, phase = spectrum.chunk(2, dim=-1)
            polar = torch.polar(log_magnitude.exp().clamp(max=MAX_MAGNITUDE), phase)
            hop_length = self.mel_settings.hop_length
            return istft(polar, hop_length, mel.shape[1] * hop_length)[:, None]
