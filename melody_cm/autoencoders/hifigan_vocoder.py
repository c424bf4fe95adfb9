"""HiFi-GAN as MusicLDM's vocoder, log-mel -> waveform (arXiv 2010.05646; MusicCM, arXiv 2404.13358, section 4.1)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.autoencoders.hifigan import keep_variance
from melody_cm.interfaces import Vocoder
from melody_cm.placement import keep_fp32
from melody_cm.signal import MelSettings


class HiFiGANVocoder(Vocoder):
    """The generator of HiFi-GAN with the weights of transformers' `SpeechT5HifiGan`, the layout of public folders.

    It computes what that computes, by two-dimensional convolutions in channels-last memory, as `hifigan` does.

    Mels are brought to about unit scale by `model.mean` and `model.scale`, one number a bin, which are saved with the
    weights. There is no weight norm: public folders hold plain weights. Deterministic, and local: a sample depends on
    the mel of at most some dozens of frames around it.

    Args:
        sample_rate, n_fft, hop_length, num_mels, f_min, f_max: as in `MelSettings`.
        upsampling: rate of each stage; their product is the hop length.
        upsampling_kernels: samples, one a stage.
        first_channels: before the first stage; each stage halves them.
        residual_kernels: samples, one residual block each, averaged.
        residual_dilations: of each residual block, one after another.
        mel_mean, mel_std: what `model.mean` and `model.scale` start from.

    Raises:
        ValueError: rates whose product is not the hop length, kernels that do not fit them, or channels that cannot be
            halved so often.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        num_mels: int,
        f_min: float,
        f_max: float,
        upsampling: list[int],
        upsampling_kernels: list[int],
        first_channels: int,
        residual_kernels: list[int],
        residual_dilations: list[int],
        mel_mean: float = -4.0,
        mel_std: float = 4.0,
    ) -> None:
        super().__init__()
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        self.mel_settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        self.sample_rate = sample_rate
        _check_stages(hop_length, upsampling, upsampling_kernels, first_channels)
        self.model = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=num_mels,
                sampling_rate=sample_rate,
                upsample_initial_channel=first_channels,
                upsample_rates=upsampling,
                upsample_kernel_sizes=upsampling_kernels,
                resblock_kernel_sizes=residual_kernels,
                resblock_dilation_sizes=[residual_dilations for _ in residual_kernels],
                normalize_before=True,
            )
        )
        self.model.mean.fill_(mel_mean)
        self.model.scale.fill_(mel_std)
        self._keep_variance()
        keep_fp32(self.model.conv_post)

    def forward(self, mel: Float[Tensor, "b l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform within (-1, 1), t = l * hop_length samples."""
        model, slope = self.model, self.model.config.leaky_relu_slope
        image = ((mel - model.mean) / model.scale).mT.unsqueeze(2)
        x = _convolve(model.conv_pre, image.contiguous(memory_format=torch.channels_last))
        for stage, upsampler in enumerate(model.upsampler):
            x = _convolve(upsampler, F.leaky_relu(x, slope))
            blocks = model.resblocks[stage * model.num_kernels : (stage + 1) * model.num_kernels]
            x = sum(_residual_block(block, x, slope) for block in blocks) / model.num_kernels
        waveform = torch.tanh(model.conv_post(F.leaky_relu(x)[:, :, 0]))
        # Kernels that are longer than their rate by an odd number give a sample too many a stage.
        return waveform[..., : mel.shape[1] * self.mel_settings.hop_length]

    @torch.no_grad()
    def _keep_variance(self) -> None:
        """First weights that neither amplify nor damp: with transformers' small ones a training begins in silence."""
        for layer in self.model.modules():
            if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
                layer.reset_parameters()
        for layer in (self.model.conv_pre, *self.model.upsampler):
            keep_variance(layer)


def _convolve(layer: nn.Conv1d | nn.ConvTranspose1d, x: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b d 1 l"]:
    """What the one-dimensional layer computes."""
    weight, (stride,), (padding,), (dilation,) = layer.weight.unsqueeze(2), layer.stride, layer.padding, layer.dilation
    if layer.transposed:
        return F.conv_transpose2d(x, weight, layer.bias, (1, stride), (0, padding))
    return F.conv2d(x, weight, layer.bias, (1, stride), (0, padding), (1, dilation))


def _residual_block(block: nn.Module, x: Float[Tensor, "b c 1 t"], slope: float) -> Float[Tensor, "b c 1 t"]:
    for first, second in zip(block.convs1, block.convs2, strict=True):
        x = x + _convolve(second, F.leaky_relu(_convolve(first, F.leaky_relu(x, slope)), slope))
    return x


def _check_stages(hop_length: int, rates: list[int], kernels: list[int], first_channels: int) -> None:
    if math.prod(rates) != hop_length:
        raise ValueError(
            f"upsampling {rates} makes {math.prod(rates)} samples of a frame, but hop_length is {hop_length}; "
            "use rates whose product is the hop length"
        )
    if len(kernels) != len(rates) or any(kernel < rate for kernel, rate in zip(kernels, rates, strict=False)):
        raise ValueError(f"upsampling_kernels {kernels} must be as many as the rates {rates} and at least as long")
    if first_channels % 2 ** len(rates):
        raise ValueError(
            f"first_channels {first_channels} must be a multiple of {2 ** len(rates)} to be halved {len(rates)} times"
        )
