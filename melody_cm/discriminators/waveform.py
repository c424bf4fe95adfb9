"""The discriminators of MeLoDy's audio VAE-GAN together (arXiv 2305.15719, appendix B.1)."""

from jaxtyping import Float
from torch import Tensor

from melody_cm.discriminators.multi_period import MultiPeriodDiscriminator
from melody_cm.discriminators.multi_resolution import MultiResolutionDiscriminator
from melody_cm.interfaces import Discriminator, DiscriminatorOutput


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
