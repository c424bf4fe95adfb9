"""The multi-resolution spectrogram discriminator of UnivNet (Jang et al., arXiv 2106.07889, section 2.3)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melody_cm.interfaces import Discriminator, DiscriminatorOutput
from melody_cm.signal import stft_magnitude

SLOPE = 0.2
# (kernel, stride) over (frequency, time) of the hidden layers.
LAYERS = [((3, 9), (1, 1)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 3), (1, 1))]


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
        features = []
        for convolution in self.hidden:
            picture = F.leaky_relu(convolution(picture), SLOPE)
            features.append(picture)
        return DiscriminatorOutput(self.output(picture).flatten(1), features)
