"""Mels to linear magnitudes by a post-net, and Griffin-Lim's phases (Tacotron, arXiv 1703.10135, sections 3.3, 3.4)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.autoencoders.convnext_vocoder import ConvNeXtVocoder
from melody_cm.placement import at_least_fp32, in_fp32
from melody_cm.signal import MelSettings, griffin_lim, inverse_mel

SMALLEST = 1e-5
MAX_CORRECTION = 5.0  # Natural logarithm: a factor of 148.


class PostNetVocoder(ConvNeXtVocoder):
    """What a bin of a mel was made of is learned, phases are not: for trainings that are too short for a waveform.

    The network corrects the logarithms of the magnitudes that `inverse_mel` finds, and begins with no correction: an
    untrained one is Griffin-Lim. ConvNeXt blocks stand where Tacotron has convolutions and a GRU. Deterministic.

    Args:
        sample_rate: Hz.
        n_fft, hop_length: samples.
        num_mels: bins f.
        f_min, f_max: Hz.
        width, hidden_width, num_blocks, kernel: of the ConvNeXt blocks; the kernel in frames, odd.
        iterations: of Griffin-Lim.
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
        width: int = 256,
        hidden_width: int = 768,
        num_blocks: int = 6,
        kernel: int = 7,
        iterations: int = 32,
        mel_mean: float = -4.0,
        mel_std: float = 4.0,
    ) -> None:
        mel_settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        super().__init__(mel_settings, n_fft // 2 + 1, width, hidden_width, num_blocks, kernel, mel_mean, mel_std)
        self.iterations = iterations
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def magnitude(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b l k"]:
        """The linear STFT magnitudes of a log-mel, k = n_fft / 2 + 1; fp32, with gradient of the correction alone."""
        correction = at_least_fp32(self.frames(mel))
        with torch.no_grad(), in_fp32(mel.device):
            known = inverse_mel(mel, self.mel_settings).clamp(min=SMALLEST)
        return known * (MAX_CORRECTION * (correction / MAX_CORRECTION).tanh()).exp()

    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform, t = l * hop_length samples."""
        # A mel leaves out the frame at the very end; the last one stands in for it.
        magnitude = self.magnitude(torch.cat([mel, mel[:, -1:]], dim=1))
        with in_fp32(mel.device):
            length = mel.shape[1] * self.mel_settings.hop_length
            return griffin_lim(magnitude, self.mel_settings.hop_length, length, self.iterations)[:, None]
