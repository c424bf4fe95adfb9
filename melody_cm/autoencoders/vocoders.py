"""Vocoders, log-mel -> waveform, that work at the rate of the frames and end in a fixed transform.

Griffin-Lim without any network, an inverse STFT (Vocos, arXiv 2306.00814), and a post-net before Griffin-Lim's phases
(Tacotron, arXiv 1703.10135, sections 3.3 and 3.4).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.interfaces import Vocoder
from melody_cm.placement import at_least_fp32, in_fp32, keep_fp32
from melody_cm.signal import MelSettings, griffin_lim, inverse_mel, istft, mel_to_waveform

MAX_MAGNITUDE = 100.0  # Of a frame of `ISTFTVocoder`.
# Of `PostNetVocoder`: the least magnitude, and the largest correction, a natural logarithm: a factor of 148.
SMALLEST, MAX_CORRECTION = 1e-5, 5.0


class GriffinLim(Vocoder):
    """No training, no weights: phases by Griffin-Lim. Deterministic.

    Every vocoder says which mels it understands by `mel_settings`.

    Args:
        sample_rate, n_fft, hop_length, num_mels, f_min, f_max: as in `MelSettings`.
        iterations: more sound cleaner; 16 cost about 30 ms for 2.56 s on one core, 32 twice that.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        num_mels: int,
        f_min: float,
        f_max: float,
        iterations: int = 32,
    ) -> None:
        super().__init__()
        self.mel_settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        self.sample_rate = sample_rate
        self.iterations = iterations

    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        return mel_to_waveform(mel, self.mel_settings, self.iterations)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time (an odd kernel, in frames) and two linear layers, added to the input by a
    learned gain a channel, which begins as `gain`."""

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


class ConvNeXtVocoder(Vocoder):
    """A vocoder with a network that gives some numbers a frame; subclasses say what these mean.

    Args:
        mel_settings: of the mels that it understands.
        outputs: numbers k a frame.
        width, hidden_width, num_blocks, kernel: of the ConvNeXt blocks; the kernel in frames, odd.
        mel_mean, mel_std: the network sees (log-mel - mel_mean) / mel_std.

    Raises:
        ValueError: an even kernel.
    """

    def __init__(
        self,
        mel_settings: MelSettings,
        outputs: int,
        width: int,
        hidden_width: int,
        num_blocks: int,
        kernel: int,
        mel_mean: float,
        mel_std: float,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} must be odd to keep the number of frames; use {kernel + 1}")
        self.mel_settings, self.sample_rate = mel_settings, mel_settings.sample_rate
        self.mel_mean, self.mel_std = mel_mean, mel_std
        self.input = nn.Conv1d(mel_settings.num_mels, width, kernel, padding=kernel // 2)
        self.input_norm = nn.LayerNorm(width, eps=1e-6)
        blocks = (ConvNeXtBlock(width, hidden_width, kernel, gain=1 / num_blocks) for _ in range(num_blocks))
        self.blocks = nn.Sequential(*blocks)
        self.output_norm = nn.LayerNorm(width, eps=1e-6)
        self.output = keep_fp32(nn.Linear(width, outputs))

    def frames(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b l k"]:
        """The network's numbers of every frame."""
        scaled = (mel - self.mel_mean) / self.mel_std
        hidden = self.input_norm(self.input(scaled.transpose(1, 2)).transpose(1, 2))
        return self.output(self.output_norm(self.blocks(hidden)))


class ISTFTVocoder(ConvNeXtVocoder):
    """Magnitude and phase of each frame, and the waveform by one inverse transform, without upsampling.

    Deterministic, and local: a sample depends on the mel of at most
    (num_blocks + 1) * (kernel // 2) frames around its own. Magnitude, phase and transform are computed in fp32.

    Args:
        sample_rate, n_fft, hop_length, num_mels, f_min, f_max: as in `MelSettings`; the inverse transform has the same
            `n_fft` and `hop_length`.
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
        spectrum = self.frames(mel)
        with in_fp32(mel.device):
            log_magnitude, phase = spectrum.chunk(2, dim=-1)
            polar = torch.polar(log_magnitude.exp().clamp(max=MAX_MAGNITUDE), phase)
            hop_length = self.mel_settings.hop_length
            return istft(polar, hop_length, mel.shape[1] * hop_length)[:, None]


class PostNetVocoder(ConvNeXtVocoder):
    """What a bin of a mel was made of is learned, phases are not: for trainings that are too short for a waveform.

    The network corrects the logarithms of the magnitudes that `inverse_mel` finds, and begins with no correction: an
    untrained one is Griffin-Lim. ConvNeXt blocks stand where Tacotron has convolutions and a GRU. Deterministic.

    Args:
        sample_rate, n_fft, hop_length, num_mels, f_min, f_max: as in `MelSettings`.
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
        # A mel leaves out the frame at the very end; the last one stands in for it.
        magnitude = self.magnitude(torch.cat([mel, mel[:, -1:]], dim=1))
        with in_fp32(mel.device):
            length = mel.shape[1] * self.mel_settings.hop_length
            return griffin_lim(magnitude, self.mel_settings.hop_length, length, self.iterations)[:, None]
