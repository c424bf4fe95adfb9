"""What vocoders at the rate of the frames share: ConvNeXt blocks over the mels of a clip (Vocos, arXiv 2306.00814)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.interfaces import Vocoder
from melody_cm.placement import keep_fp32
from melody_cm.signal import MelSettings


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
