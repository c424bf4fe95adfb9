"""Linear maps whose weights are kept in 8 or 4 bits, by torch's own CPU kernels; activations are bf16 (weight-only)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.placement import check_quantization

GROUPS = (64, 32)  # Neighbouring weights of a row that share a scale and a zero, in 4 bits.
BLOCK = 16  # The kernels take whole blocks of rows, and of columns the smallest group.

Map = Callable[[Tensor], Tensor]


def linear_map(weight: Float[Tensor, "o i"], quantization: str | None = None) -> Map:
    """x (*, i) -> x @ weight.T (*, o), fp32 in and out, multiplied in the weight's own precision or quantized.

    Args:
        quantization: int8 (symmetric, one scale a row), int4 (a scale and a zero for every group of a row), or None.

    Raises:
        ValueError: another quantization, or one on a device other than a CPU.
    """
    if quantization is None:
        return lambda x: _dense(x.to(weight.dtype), weight).float()
    check_quantization(quantization, weight.device)
    rows, columns = weight.shape
    padding = (0, -columns % GROUPS[-1])
    padded = F.pad(weight.detach().float(), (*padding, 0, -rows % BLOCK))
    multiply = (_int8 if quantization == "int8" else _int4)(padded)

    def call(x: Tensor) -> Tensor:
        flat = x.to(torch.bfloat16).reshape(-1, columns)
        made = multiply(F.pad(flat, padding) if padding[1] else flat)[:, :rows]
        return made.float().view(*x.shape[:-1], rows)

    return call


def _dense(x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"]) -> Float[Tensor, "*rows o"]:
    """The plain product. Of one bf16 row torch's own kernel makes it in half of oneDNN's time (400 M weights, 2 cores
    with AVX512-BF16: 44 instead of 96 ms), of several rows it does not."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or x.numel() != weight.shape[1]:
        return F.linear(x, weight)
    before = torch.backends.mkldnn.set_flags(False, _fp32_precision=None)
    try:
        return F.linear(x, weight)
    finally:
        torch.backends.mkldnn.set_flags(before[0], _fp32_precision=None)


def _int8(weight: Float[Tensor, "o i"]) -> Map:
    scale = _step(weight.abs().amax(dim=1) / 127)
    packed = (weight / scale[:, None].float()).round().clamp(-127, 127).to(torch.int8)
    return lambda x: torch._weight_int8pack_mm(x, packed, scale)


def _int4(weight: Float[Tensor, "o i"]) -> Map:
    size = next(size for size in GROUPS if weight.shape[1] % size == 0)
    groups = weight.unflatten(1, (-1, size))
    low, high = groups.aminmax(dim=2)
    scale = _step((high - low) / 15)
    # The kernel's zero is the value of code 8; both are rounded first, so that the codes make up for it.
    zero = (low + 8 * scale.float()).to(torch.bfloat16)
    codes = ((groups - zero[..., None].float()) / scale[..., None].float() + 8).round().clamp(0, 15)
    packed = torch._convert_weight_to_int4pack_for_cpu(codes.int().flatten(1), 1)
    steps = torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous()
    return lambda x: torch._weight_int4pack_mm_for_cpu(x, packed, size, steps)


def _step(wanted: Tensor) -> Tensor:
    """The distance between neighbouring values, as the kernels take it; any for weights that are all the same."""
    return wanted.clamp(min=torch.finfo(torch.bfloat16).tiny).to(torch.bfloat16)
