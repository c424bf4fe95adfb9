import pytest
import torch
from torch import nn
from torch.nn import functional as F

from melody_cm.autoencoders.hifigan import Downsampling, MultiReceptiveField, ResidualBlock, Upsampling


@pytest.mark.parametrize(("rate", "kernel"), [(2, 5), (3, 7), (4, 9), (2, 7), (3, 5), (4, 4), (5, 8), (4, 8)])
def test_rates_are_exact(rate, kernel):
    x = torch.randn(2, 3, 1, 12 * rate)
    assert Downsampling(3, 5, kernel, rate)(x).shape == (2, 5, 1, 12)
    assert Upsampling(3, 5, kernel, rate)(x).shape == (2, 5, 1, 12 * rate * rate)


@pytest.mark.parametrize(("rate", "kernel"), [(2, 5), (4, 9)])
def test_upsampling_equals_one_dimensional_transposed_convolution(rate, kernel):
    layer, x = Upsampling(3, 5, kernel, rate), torch.randn(2, 3, 7)
    padding = (kernel - rate + 1) // 2
    expected = F.conv_transpose1d(
        F.leaky_relu(x, 0.1), layer.conv.weight[:, :, 0], layer.conv.bias, stride=rate, padding=padding,
        output_padding=2 * padding - (kernel - rate),
    )  # fmt: skip
    torch.testing.assert_close(layer(x[:, :, None])[:, :, 0], expected, atol=1e-5, rtol=1e-4)


def test_residual_block_equals_one_dimensional_convolutions():
    block, x = ResidualBlock(4, 7, [1, 3], convolutions=2), torch.randn(2, 4, 50)
    expected = x
    for step, dilation in zip(block.steps, (1, 3), strict=True):
        first, second = (layer for layer in step if isinstance(layer, nn.Conv2d))
        y = F.conv1d(
            F.leaky_relu(expected, 0.1), first.weight[:, :, 0], first.bias, padding=3 * dilation, dilation=dilation
        )
        expected = expected + F.conv1d(F.leaky_relu(y, 0.1), second.weight[:, :, 0], second.bias, padding=3)
    torch.testing.assert_close(block(x[:, :, None])[:, :, 0], expected, atol=1e-5, rtol=1e-4)


def test_multi_receptive_field_is_the_mean_of_its_blocks():
    layer, x = MultiReceptiveField(4, [3, 7], [1], convolutions=1), torch.randn(1, 4, 1, 20)
    torch.testing.assert_close(layer(x), (layer.blocks[0](x) + layer.blocks[1](x)) / 2)


def test_layers_start_out_keeping_the_variance():
    x = torch.randn(4, 64, 1, 400)
    for layer in (Downsampling(64, 64, 9, 4), Upsampling(64, 64, 9, 4)):
        assert 0.7 < (layer(x).std() / F.leaky_relu(x, 0.1).square().mean().sqrt() / 2**0.5).item() < 1.4


def test_impossible_kernels_are_refused():
    with pytest.raises(ValueError, match="kernel 3 is shorter than its rate 4"):
        Upsampling(3, 5, 3, 4)
    with pytest.raises(ValueError, match="kernel 4 must be odd"):
        ResidualBlock(4, 4, [1], 1)
