"""A vocoder that works at the rate of the frames, by an inverse STFT (Vocos, arXiv 2306.00814)."""

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.autoencoders.convnext_vocoder import ConvNeXtVocoder
from melody_cm.placement import in_fp32
from melody_cm.signal import MelSettings, istft

MAX_MAGNITUDE = 100.0


class ISTFTVocoder(ConvNeXtVocoder):
    """Magnitude and phase of each frame, and the waveform by one inverse transform, without upsampling.

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
        mel_settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        super().__init__(mel_settings, n_fft + 2, width, hidden_width, num_blocks, kernel, mel_mean, mel_std)

    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform, t = l * hop_length samples."""
        spectrum = self.frames(mel)
        with in_fp32(mel.device):
            log_magnitude, phase = spectrum.chunk(2, dim=-1)
            polar = torch.polar(log_magnitude.exp().clamp(max=MAX_MAGNITUDE), phase)
            hop_length = self.mel_settings.hop_length
            return istft(polar, hop_length, mel.shape[1] * hop_length)[:, None]
