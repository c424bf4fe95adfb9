"""The layers of HiFi-GAN (Kong et al., arXiv 2010.05646): residual stacks and exact down- and upsampling.

Sequences are (b, c, 1, t) in channels-last memory and convolutions two-dimensional with kernels (1, k): that is the
same arithmetic as one-dimensional ones, and measurably faster on CPUs, most of all in bf16. Convolutions outside the
residual blocks start out keeping the variance of what passes: with torch's smaller default, a short training never
leaves silence, which is a local minimum of spectral L1 losses.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melody_cm.placement import keep_fp32

SLOPE = 0.1


def check_lengths(downsampling: list[int], **lists: list[int]) -> None:
    """Refuse with a ValueError lists, told by their names, that have not one entry a rate of `downsampling`."""
    for name, given in lists.items():
        if len(given) != len(downsampling):
            raise ValueError(
                f"{name} {given} has {len(given)} entries but downsampling {downsampling} has {len(downsampling)}; "
                "give one a rate"
            )


def convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps the length.

    Raises:
        ValueError: an even kernel.
    """
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} must be odd to keep the length; use {kernel + 1}")
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, (1, kernel), dilation=(1, dilation), padding=(0, padding))


def keep_variance(conv: nn.Module) -> nn.Module:
    """Give a convolution along the last axis first weights that neither amplify nor damp, after a leaky ReLU."""
    fan_in = conv.in_channels * conv.kernel_size[-1] / (conv.stride[-1] if conv.transposed else 1)
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_in))
    nn.init.zeros_(conv.bias)
    return conv


def variance_preserving(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """The convolution with such first weights, and weight norm."""
    return weight_norm(keep_variance(conv))


class ResidualBlock(nn.Module):
    """Residual convolutions of one kernel length, one after another for each dilation.

    Args:
        channels: c.
        kernel: length, samples.
        dilations: one residual step each.
        convolutions: how many convolutions a step has: the dilated one, then plain ones (1 or 2 in HiFi-GAN).
    """

    def __init__(self, channels: int, kernel: int, dilations: list[int], convolutions: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        for dilation in dilations:
            layers: list[nn.Module] = []
            for spacing in [dilation] + [1] * (convolutions - 1):
                layers += [nn.LeakyReLU(SLOPE), weight_norm(convolution(channels, channels, kernel, spacing))]
            self.steps.append(nn.Sequential(*layers))

    def forward(self, x: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b c 1 t"]:
        for step in self.steps:
            x = x + step(x)
        return x


class MultiReceptiveField(nn.Module):
    """The mean of residual blocks of several kernel lengths."""

    def __init__(self, channels: int, kernels: list[int], dilations: list[int], convolutions: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels, kernel, dilations, convolutions) for kernel in kernels)

    def forward(self, x: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b c 1 t"]:
        outputs = [block(x) for block in self.blocks]
        return sum(outputs[1:], outputs[0]) / len(outputs)


class Downsampling(nn.Module):
    """A strided convolution: t samples, a multiple of `rate`, become exactly t / rate."""

    def __init__(self, inputs: int, outputs: int, kernel: int, rate: int) -> None:
        super().__init__()
        _check_kernel(kernel, rate)
        left = (kernel - rate) // 2
        self.padding = (left, kernel - rate - left)
        self.conv = variance_preserving(nn.Conv2d(inputs, outputs, (1, kernel), stride=(1, rate)))

    def forward(self, x: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b d 1 l"]:
        return self.conv(F.pad(F.leaky_relu(x, SLOPE), self.padding))


class Upsampling(nn.Module):
    """A transposed convolution: l frames become exactly l * rate."""

    def __init__(self, inputs: int, outputs: int, kernel: int, rate: int) -> None:
        super().__init__()
        _check_kernel(kernel, rate)
        self.surplus = kernel - rate
        self.conv = variance_preserving(nn.ConvTranspose2d(inputs, outputs, (1, kernel), stride=(1, rate)))

    def forward(self, x: Float[Tensor, "b c 1 l"]) -> Float[Tensor, "b d 1 t"]:
        y = self.conv(F.leaky_relu(x, SLOPE))
        left = (self.surplus + 1) // 2
        return y[..., left : y.shape[-1] - (self.surplus - left)]


class Encoder(nn.Module):
    """A waveform (b, 1, t) -> (b, c, t / hop): strided convolutions, each followed by a residual stack.

    Args:
        rates, channels, kernels: of each downsampling, first to last; hop is the product of the rates.
        output_channels: c.
        residual_kernels, residual_dilations, residual_convolutions: of each stack (`ResidualBlock`).
        residual_repeats: stacks after each downsampling.
    """

    def __init__(
        self,
        rates: list[int],
        channels: list[int],
        kernels: list[int],
        output_channels: int,
        residual_kernels: list[int],
        residual_dilations: list[int],
        residual_convolutions: int,
        residual_repeats: int,
    ) -> None:
        super().__init__()
        width = channels[0] // 2
        layers: list[nn.Module] = [variance_preserving(convolution(1, width, 7))]
        for rate, outputs, kernel in zip(rates, channels, kernels, strict=True):
            layers.append(Downsampling(width, outputs, kernel, rate))
            layers += [
                MultiReceptiveField(outputs, residual_kernels, residual_dilations, residual_convolutions)
                for _ in range(residual_repeats)
            ]
            width = outputs
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(SLOPE))
        self.output = variance_preserving(convolution(width, output_channels, 3))

    def forward(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b c l"]:
        return self.output(self.layers(_channels_last(waveform)))[:, :, 0]


class Generator(nn.Module):
    """A sequence (b, c, l) -> waveform (b, 1, l * hop) within [-1, 1], its last layers in fp32: HiFi-GAN's generator.

    Args:
        input_channels: c.
        first_channels: width before the first upsampling.
        rates, channels, kernels: of each upsampling, first to last; hop is the product of the rates.
        residual_kernels, residual_dilations, residual_convolutions: of each stack (`ResidualBlock`).
    """

    def __init__(
        self,
        input_channels: int,
        first_channels: int,
        rates: list[int],
        channels: list[int],
        kernels: list[int],
        residual_kernels: list[int],
        residual_dilations: list[int],
        residual_convolutions: int,
    ) -> None:
        super().__init__()
        width = first_channels
        layers: list[nn.Module] = [variance_preserving(convolution(input_channels, width, 7))]
        for rate, outputs, kernel in zip(rates, channels, kernels, strict=True):
            layers.append(Upsampling(width, outputs, kernel, rate))
            layers.append(MultiReceptiveField(outputs, residual_kernels, residual_dilations, residual_convolutions))
            width = outputs
        output = variance_preserving(keep_fp32(convolution(width, 1, 7)))
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(SLOPE), output, nn.Tanh())

    def forward(self, x: Float[Tensor, "b c l"]) -> Float[Tensor, "b 1 t"]:
        return self.layers(_channels_last(x))[:, :, 0]


def _channels_last(x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c 1 t"]:
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def _check_kernel(kernel: int, rate: int) -> None:
    if kernel < rate:
        raise ValueError(f"kernel {kernel} is shorter than its rate {rate} and would skip samples; use {2 * rate + 1}")
