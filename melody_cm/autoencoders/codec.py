"""A neural audio codec: HiFi-GAN's layers around a residual quantizer (SoundStream, arXiv 2107.03312).

What MusicLM (arXiv 2301.11325, section 3.1) models: 50 frames a second of 12 codes, the first 4 coarse, the rest fine.
"""

import math
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from melody_cm.autoencoders.hifigan import Encoder, Generator, check_lengths
from melody_cm.autoencoders.quantizer import ResidualQuantizer
from melody_cm.interfaces import Codec
from melody_cm.signal import fit_length, pad_to_multiple


def check_codes(codes: Int[Tensor, "b q l"], codec: Codec) -> None:
    """Refuse what a codec cannot decode.

    Raises:
        ValueError: more codebooks than there are, or codes outside of them.
    """
    if not 1 <= codes.shape[1] <= codec.num_codebooks:
        raise ValueError(f"codes of {codes.shape[1]} codebooks, but the codec has 1 to {codec.num_codebooks}")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codec.codebook_size:
        raise ValueError(
            f"codes {int(codes.min())} .. {int(codes.max())}, but the codec's are 0 .. {codec.codebook_size - 1}; "
            "use the codec that the language model was trained on"
        )


class Quantized(NamedTuple):
    """A codec's training pass: `target` and `prediction` (b, 1, t); `commitment`, the squared distance of the features
    from what the first 1 .. q codebooks stand for, averaged; `features` (b, l, d); `codes` (b, q, l)."""

    target: Tensor
    prediction: Tensor
    commitment: Float[Tensor, ""]
    features: Tensor
    codes: Tensor


class WaveformCodec(Codec):
    """A strided encoder, residual vector quantization and a HiFi-GAN generator.

    `frame_rate` is sample_rate / hop with hop the product of `downsampling`. Every kernel of a rate r is 2 r + 1 long.

    Args:
        sample_rate, downsampling, encoder_channels, decoder_channels, decoder_first_channels, residual_kernels,
            residual_dilations: as in `WaveformAutoencoder`.
        width: d of the vectors that are quantized.
        num_codebooks: q, coarse to fine.
        codebook_size: codes of each.
        codebook_decay: of the codes' running means, a step.

    Raises:
        ValueError: lists of unlike lengths, an even residual kernel, or codebooks that are none.
    """

    def __init__(
        self,
        sample_rate: int,
        downsampling: list[int],
        encoder_channels: list[int],
        decoder_channels: list[int],
        decoder_first_channels: int,
        width: int,
        num_codebooks: int,
        codebook_size: int,
        residual_kernels: list[int],
        residual_dilations: list[int],
        codebook_decay: float = 0.99,
    ) -> None:
        super().__init__()
        check_lengths(downsampling, encoder_channels=encoder_channels, decoder_channels=decoder_channels)
        self.hop_length = math.prod(downsampling)
        self.sample_rate, self.frame_rate = sample_rate, sample_rate / self.hop_length
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        kernels = [2 * rate + 1 for rate in downsampling]
        self.encoder = Encoder(
            rates=downsampling,
            channels=encoder_channels,
            kernels=kernels,
            output_channels=width,
            residual_kernels=residual_kernels,
            residual_dilations=residual_dilations,
            residual_convolutions=1,
            residual_repeats=1,
        )
        self.quantizer = ResidualQuantizer(width, num_codebooks, codebook_size, codebook_decay)
        self.decoder = Generator(
            input_channels=width,
            first_channels=decoder_first_channels,
            rates=downsampling[::-1],
            channels=decoder_channels,
            kernels=kernels[::-1],
            residual_kernels=residual_kernels,
            residual_dilations=residual_dilations,
            residual_convolutions=1,
        )

    @property
    def pass_module(self) -> nn.Module:
        return self.decoder

    def encode_codes(self, waveform: Float[Tensor, "b 1 t"]) -> Int[Tensor, "b q l"]:
        return self.quantizer.codes(self.features(waveform))

    def decode_codes(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "b 1 t"]:
        """The waveform, t = l * hop samples; the first codebooks alone (q < num_codebooks) give a coarser one.

        Raises:
            ValueError: as `check_codes`.
        """
        check_codes(codes, self)
        vectors = self.quantizer.partial_sums(codes)[-1]
        return self.decoder(vectors.transpose(1, 2))

    def features(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l d"]:
        """The vectors that are quantized, l = ceil(t / hop)."""
        return self.encoder(pad_to_multiple(waveform, self.hop_length)).transpose(1, 2)

    def reconstruct(self, waveform: Float[Tensor, "b 1 t"]) -> Quantized:
        """Encode, quantize, decode; the gradient passes the quantizer as if it were not there (straight through).

        Only `quantizer.learn` changes codebooks, so equal waveforms give equal results until it is called.
        """
        features = self.features(waveform)
        codes = self.quantizer.codes(features)
        partial_sums = self.quantizer.partial_sums(codes).to(features.dtype)
        passed = features + (partial_sums[-1] - features).detach()
        decoded = self.decoder(passed.transpose(1, 2))
        commitment = (features.float() - partial_sums.float()).square().mean()
        return Quantized(waveform, fit_length(decoded, waveform.shape[-1]), commitment, features.detach(), codes)
