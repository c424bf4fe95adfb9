"""The discriminators of MeLoDy's audio VAE-GAN (arXiv 2305.15719, appendix B.1).

Several periods: HiFi-GAN (Kong et al., arXiv 2010.05646, section 2.2). Several spectral resolutions: UnivNet (Jang et
al., arXiv 2106.07889, section 2.3).
"""

from collections.abc import Iterable

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melody_cm.interfaces import Discriminator, DiscriminatorOutput
from melody_cm.signal import stft_magnitude

PERIOD_KERNEL, PERIOD_STRIDE = 5, 3
# (kernel, stride) over (frequency, time) of the hidden layers of a resolution.
LAYERS = [((3, 9), (1, 1)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 3), (1, 1))]


def judged(
    picture: Float[Tensor, "b 1 h w"], hidden: Iterable[nn.Module], output: nn.Module, slope: float
) -> DiscriminatorOutput:
    """What convolutions make of a picture, with leaky ReLUs after the hidden ones, whose results are the features."""
    features = []
    for convolution in hidden:
        picture = F.leaky_relu(convolution(picture), slope)
        features.append(picture)
    return DiscriminatorOutput(output(picture).flatten(1), features)


class PeriodJudge(nn.Module):
    """Strided convolutions along the columns of a waveform folded at one period."""

    def __init__(self, period: int, channels: list[int]) -> None:
        super().__init__()
        self.period = period
        widths = [1, *channels]
        strides = [PERIOD_STRIDE] * (len(channels) - 1) + [1]
        self.hidden = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, (PERIOD_KERNEL, 1), (stride, 1), (PERIOD_KERNEL // 2, 0)))
            for inputs, outputs, stride in zip(widths, channels, strides, strict=False)
        )
        self.output = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> DiscriminatorOutput:
        missing = -waveform.shape[-1] % self.period
        folded = rearrange(F.pad(waveform, (0, missing), mode="reflect"), "b c (n p) -> b c n p", p=self.period)
        return judged(folded, self.hidden, self.output, slope=0.1)


class ResolutionJudge(nn.Module):
    """Two-dimensional convolutions over one magnitude spectrogram."""

    def __init__(self, resolution: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.resolution = resolution
        widths = [1] + [channels] * (len(LAYERS) - 1)
        self.hidden = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, channels, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for inputs, (kernel, stride) in zip(widths, LAYERS, strict=True)
        )
        self.output = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> DiscriminatorOutput:
        picture = stft_magnitude(waveform[:, 0], *self.resolution).transpose(1, 2)[:, None]
        return judged(picture, self.hidden, self.output, slope=0.2)


class MultiPeriodDiscriminator(Discriminator):
    """One judge a period: each sees the waveform folded to rows of `period` samples and compares along columns.

    Args:
        periods: samples; primes, so that judges see unlike samples.
        channels: of the hidden layers; all but the last shorten the columns by 3.
    """

    def __init__(self, periods: list[int], channels: list[int]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(PeriodJudge(period, channels) for period in periods)

    def forward(self, sample: Float[Tensor, "b 1 t"]) -> list[DiscriminatorOutput]:
        return [judge(sample) for judge in self.judges]


class MultiResolutionDiscriminator(Discriminator):
    """One judge a resolution: each sees the linear magnitude spectrogram as a picture.

    Args:
        fft_sizes, hop_lengths, window_lengths: samples, one entry a resolution.
        channels: of the hidden layers.

    Raises:
        ValueError: lists of unlike lengths.
    """

    def __init__(
        self, fft_sizes: list[int], hop_lengths: list[int], window_lengths: list[int], channels: int = 32
    ) -> None:
        super().__init__()
        if not 0 < len(fft_sizes) == len(hop_lengths) == len(window_lengths):
            raise ValueError(
                f"{len(fft_sizes)} fft_sizes, {len(hop_lengths)} hop_lengths and {len(window_lengths)} window_lengths "
                "must be equally many and at least one; give one of each a resolution"
            )
        resolutions = zip(fft_sizes, hop_lengths, window_lengths, strict=True)
        self.judges = nn.ModuleList(ResolutionJudge(resolution, channels) for resolution in resolutions)

    def forward(self, sample: Float[Tensor, "b 1 t"]) -> list[DiscriminatorOutput]:
        return [judge(sample) for judge in self.judges]


class WaveformDiscriminator(Discriminator):
    """Judges waveforms (b, 1, t) at several periods and at several spectral resolutions.

    Args:
        periods, period_channels: of `MultiPeriodDiscriminator`.
        fft_sizes, hop_lengths, window_lengths, resolution_channels: of `MultiResolutionDiscriminator`.
    """

    def __init__(
        self,
        periods: list[int],
        period_channels: list[int],
        fft_sizes: list[int],
        hop_lengths: list[int],
        window_lengths: list[int],
        resolution_channels: int = 32,
    ) -> None:
        super().__init__()
        self.multi_period = MultiPeriodDiscriminator(periods, period_channels)
        self.multi_resolution = MultiResolutionDiscriminator(
            fft_sizes, hop_lengths, window_lengths, resolution_channels
        )

    def forward(self, sample: Float[Tensor, "b 1 t"]) -> list[DiscriminatorOutput]:
        return self.multi_period(sample) + self.multi_resolution(sample)
