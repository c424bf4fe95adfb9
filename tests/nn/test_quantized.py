"""Weights of 8 and 4 bits, told by what a map makes of unit vectors."""

import pytest
import torch

from melody_cm.nn.quantized import linear_map

SHAPES = [(48, 128), (16, 64), (40, 96), (7, 20)]  # (out, in): whole blocks, whole groups, and neither.


def weights_of(made, columns: int) -> torch.Tensor:
    """The matrix that a map multiplies with: each weight is one of few numbers, which bf16 may round once more."""
    return made(torch.eye(columns)).T


@pytest.mark.parametrize("shape", SHAPES)
def test_eight_bits_are_127_steps_to_the_largest_weight_of_a_row(shape):
    weight = torch.randn(shape) * torch.logspace(-3, 1, shape[0])[:, None]
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    kept = weights_of(linear_map(weight, "int8"), shape[1])
    assert ((kept - weight).abs() <= 0.5 * step + 2**-7 * weight.abs()).all()
    steps = kept / step
    assert ((steps - steps.round()).abs() <= 2**-7 * steps.abs() + 1e-6).all(), "not a whole number of steps"
    assert (kept - weight).abs().max() > 1e-3 * weight.abs().max(), "nothing was rounded"


@pytest.mark.parametrize("shape", SHAPES)
def test_four_bits_are_16_values_from_the_smallest_to_the_largest_of_a_group(shape):
    weight = torch.randn(shape) * torch.logspace(-3, 1, shape[0])[:, None] + torch.linspace(-1, 1, shape[0])[:, None]
    kept = weights_of(linear_map(weight, "int4"), shape[1])
    size = 64 if shape[1] % 64 == 0 else 32
    for group, rounded in zip(weight.split(size, dim=1), kept.split(size, dim=1), strict=True):
        low, high = group.amin(dim=1, keepdim=True), group.amax(dim=1, keepdim=True)
        if group.shape[1] < size:  # Filled up with zeros.
            low, high = low.clamp(max=0), high.clamp(min=0)
        coarse = 2**-7 * torch.maximum(low.abs(), high.abs())
        assert ((rounded - group).abs() <= 0.5 * (high - low) / 15 + 2 * coarse).all()
        assert all(len(row.unique()) <= 16 for row in rounded)
        assert (rounded - group).abs().mean() > 0.1 * (high - low).mean() / 15, "nothing was rounded"


@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_map_multiplies_with_the_weights_that_it_keeps(shape, quantization):
    made, x = linear_map(torch.randn(shape), quantization), torch.randn(2, 3, shape[1])
    whole = made(x)
    expected = x.double() @ weights_of(made, shape[1]).double().T
    assert whole.dtype == torch.float32
    torch.testing.assert_close(whole.double(), expected, atol=0.02 * expected.abs().max().item(), rtol=0)
    for row in range(3):
        torch.testing.assert_close(made(x[:1, row : row + 1]), whole[:1, row : row + 1], atol=0.05, rtol=0.02)


def test_one_row_of_bf16_is_multiplied_as_several_are():
    made, x = linear_map(torch.randn(96, 256).bfloat16()), torch.randn(4, 256)
    alone = torch.cat([made(row[None]) for row in x])
    assert torch.backends.mkldnn.enabled
    torch.testing.assert_close(alone, made(x), atol=0.1, rtol=0.01)


def test_rows_of_equal_weights_are_kept():
    for quantization in ("int8", "int4"):
        weight = torch.tensor([[0.0], [0.5], [-2.0]]).expand(3, 64)
        torch.testing.assert_close(weights_of(linear_map(weight, quantization), 64), weight, atol=1e-6, rtol=2**-7)


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(ValueError, match="quantization 'int2' is none of int8, int4"):
        linear_map(torch.randn(16, 32), "int2")
    with pytest.raises(ValueError, match="int4 works on a CPU, not on meta"):
        linear_map(torch.randn(16, 32, device="meta"), "int4")
