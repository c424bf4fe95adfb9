"""The multi-period discriminator of HiFi-GAN (Kong et al., arXiv 2010.05646, section 2.2)."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melody_cm.interfaces import Discriminator, DiscriminatorOutput

SLOPE = 0.1
KERNEL, STRIDE = 5, 3


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


class PeriodJudge(nn.Module):
    """Strided convolutions along the columns of a waveform folded at one period."""

    def __init__(self, period: int, channels: list[int]) -> None:
        super().__init__()
        self.period = period
        widths = [1, *channels]
        strides = [STRIDE] * (len(channels) - 1) + [1]
        self.hidden = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, (KERNEL, 1), (stride, 1), (KERNEL // 2, 0)))
            for inputs, outputs, stride in zip(widths, channels, strides, strict=False)
        )
        self.output = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> DiscriminatorOutput:
        missing = -waveform.shape[-1] % self.period
        folded = rearrange(F.pad(waveform, (0, missing), mode="reflect"), "b c (n p) -> b c n p", p=self.period)
        features = []
        for convolution in self.hidden:
            folded = F.leaky_relu(convolution(folded), SLOPE)
            features.append(folded)
        return DiscriminatorOutput(self.output(folded).flatten(1), features)
