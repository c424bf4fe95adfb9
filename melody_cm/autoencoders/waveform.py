"""MeLoDy's audio autoencoder: waveform <-> one latent frame every 96 samples (arXiv 2305.15719, appendix B.1)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.autoencoders.bottleneck import DiagonalGaussian
from melody_cm.autoencoders.hifigan import Encoder, Generator, check_lengths
from melody_cm.interfaces import Autoencoder, Reconstruction
from melody_cm.randomness import Draws
from melody_cm.signal import fit_length, pad_to_multiple

# The Gaussian starts narrow (std 0.02): noise as wide as the prior's would drown the untrained encoder's means, and the
# decoder would learn to ignore them.
INITIAL_LOG_VARIANCE = -8.0


class WaveformAutoencoder(Autoencoder):
    """A strided HiFi-GAN-like encoder, a Gaussian bottleneck and a HiFi-GAN generator.

    The latent is z = clip(gaussian / 3, -1, 1), (b, c, l) with l = ceil(t / hop) and hop the product of `downsampling`;
    its standard deviation is thus near 1/3, not 1. What a discriminator or a log needs beyond that, the Gaussian before
    division and clipping, is `gaussian(waveform)`.

    Args:
        sample_rate: Hz.
        downsampling: rates of the encoder, first to last; the decoder's are the same, last to first.
        encoder_channels, encoder_kernels: one entry a downsampling.
        decoder_channels, decoder_kernels: one entry an upsampling, in the decoder's order.
        decoder_first_channels: width before the first upsampling.
        latent_channels: c.
        residual_kernels, residual_dilations: of the residual stacks after each rate, which average over kernels.
        encoder_residual_convolutions, decoder_residual_convolutions: convolutions for each dilation, 1 or 2.
        encoder_residual_repeats: stacks after each downsampling.

    Raises:
        ValueError: lists of unlike lengths, an even residual kernel, or a kernel shorter than its rate.
    """

    def __init__(
        self,
        sample_rate: int,
        downsampling: list[int],
        encoder_channels: list[int],
        encoder_kernels: list[int],
        decoder_channels: list[int],
        decoder_kernels: list[int],
        decoder_first_channels: int,
        latent_channels: int,
        residual_kernels: list[int],
        residual_dilations: list[int],
        encoder_residual_convolutions: int = 2,
        decoder_residual_convolutions: int = 1,
        encoder_residual_repeats: int = 1,
    ) -> None:
        super().__init__()
        check_lengths(
            downsampling,
            encoder_channels=encoder_channels,
            encoder_kernels=encoder_kernels,
            decoder_channels=decoder_channels,
            decoder_kernels=decoder_kernels,
        )
        self.sample_rate = sample_rate
        self.latent_channels = latent_channels
        self.hop_length = math.prod(downsampling)
        self.encoder = Encoder(
            rates=downsampling,
            channels=encoder_channels,
            kernels=encoder_kernels,
            output_channels=2 * latent_channels,
            residual_kernels=residual_kernels,
            residual_dilations=residual_dilations,
            residual_convolutions=encoder_residual_convolutions,
            residual_repeats=encoder_residual_repeats,
        )
        torch.nn.init.constant_(self.encoder.output.bias[latent_channels:], INITIAL_LOG_VARIANCE)
        self.register_buffer("latent_scale", torch.ones(()))  # 1 while training, then 1 / std of the Gaussian's means.
        self.decoder = Generator(
            input_channels=latent_channels,
            first_channels=decoder_first_channels,
            rates=downsampling[::-1],
            channels=decoder_channels,
            kernels=decoder_kernels,
            residual_kernels=residual_kernels,
            residual_dilations=residual_dilations,
            residual_convolutions=decoder_residual_convolutions,
        )

    @property
    def pass_module(self) -> nn.Module:
        return self.decoder

    def gaussian(self, waveform: Float[Tensor, "b 1 t"]) -> DiagonalGaussian:
        """The bottleneck's Gaussian (b, c, l), which the KL term draws to N(0, I)."""
        return DiagonalGaussian.from_parameters(self.encoder(pad_to_multiple(waveform, self.hop_length)))

    def posterior(self, waveform: Float[Tensor, "b 1 t"]) -> tuple[Float[Tensor, "b c l"], Float[Tensor, "b c l"]]:
        """Mean and standard deviation of the Gaussian, scaled, / 3; `clamp` clips what is drawn from them."""
        gaussian = self.gaussian(waveform)
        scale = self.latent_scale / 3
        return gaussian.mean * scale, gaussian.std * scale

    def clamp(self, latent: Float[Tensor, "b c l"]) -> Float[Tensor, "b c l"]:
        return latent.clamp(-1, 1)

    @torch.no_grad()
    def calibrate(self, waveform: Float[Tensor, "b 1 t"]) -> None:
        """Scale the Gaussian's means to unit variance, as division by 3 assumes; short trainings leave them narrow."""
        means = torch.cat([self.gaussian(clips).mean for clips in waveform.split(8)])
        self.latent_scale.copy_(1 / means.std().clamp(min=1e-5))

    def reconstruct(self, waveform: Float[Tensor, "b 1 t"], draws: Draws) -> Reconstruction:
        gaussian = self.gaussian(waveform)
        noise = draws.normal("posterior", gaussian.mean.shape[1:], waveform.device)
        decoded = self.decode(gaussian.sample(noise) * self.latent_scale / 3)
        return Reconstruction(waveform, fit_length(decoded, waveform.shape[-1]), gaussian.kl())

    def decode(self, latent: Float[Tensor, "b c l"]) -> Float[Tensor, "b 1 t"]:
        """The waveform, t = l * hop samples; the latent is clipped to [-1, 1] first."""
        return self.decoder(self.clamp(latent) / self.latent_scale)

    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        return (self.latent_channels, -(-round(seconds * self.sample_rate) // self.hop_length))
