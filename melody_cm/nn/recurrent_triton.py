"""The recurrence of `recurrent.py` as one Triton kernel forward and one backward, for a GPU.

The loop launches a kernel a frame and direction, some 2,000 in a published dual-path step with 64 frames a segment.
Here a program takes one segment and a block of channels through all frames, its state in registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128  # Channels of a program.


@triton.jit
def _forward_kernel(
    gates, values, skip, outputs, states, frames, segments, width,
    gates_b, gates_k, gates_s, values_b, values_k, values_s, skip_b, skip_k, skip_s, block: tl.constexpr,
):  # fmt: skip
    row, channel = tl.program_id(0).to(tl.int64), tl.program_id(1) * block + tl.arange(0, block)
    b, s = row // segments, row % segments
    inside, backwards = channel < width, channel >= width // 2
    gates += b * gates_b + s * gates_s + channel
    values += b * values_b + s * values_s + channel
    skip += b * skip_b + s * skip_s + channel
    kind = states.dtype.element_ty
    state = tl.zeros((block,), dtype=kind)
    for step in range(frames):
        frame = tl.where(backwards, frames - 1 - step, step)
        forget = tl.sigmoid(tl.load(gates + frame * gates_k, inside).to(kind))
        reset = tl.sigmoid(tl.load(gates + frame * gates_k + width, inside).to(kind))
        value = tl.load(values + frame * values_k, inside).to(kind)
        passed = tl.load(skip + frame * skip_k, inside).to(kind)
        state = value + forget * (state - value)
        place = ((b * frames + frame) * segments + s) * width + channel
        tl.store(states + place, state, inside)
        tl.store(outputs + place, passed + reset * (state - passed), inside)


@triton.jit
def _backward_kernel(
    grad, gates, values, skip, states, grad_gates, grad_values, grad_skip, frames, segments, width,
    gates_b, gates_k, gates_s, values_b, values_k, values_s, skip_b, skip_k, skip_s, block: tl.constexpr,
):  # fmt: skip
    row, channel = tl.program_id(0).to(tl.int64), tl.program_id(1) * block + tl.arange(0, block)
    b, s = row // segments, row % segments
    inside, backwards = channel < width, channel >= width // 2
    gates += b * gates_b + s * gates_s + channel
    values += b * values_b + s * values_s + channel
    skip += b * skip_b + s * skip_s + channel
    kind = states.dtype.element_ty
    later = tl.zeros((block,), dtype=kind)  # What the next frame's state passes back.
    for back in range(frames):
        frame = tl.where(backwards, back, frames - 1 - back)
        forget = tl.sigmoid(tl.load(gates + frame * gates_k, inside).to(kind))
        reset = tl.sigmoid(tl.load(gates + frame * gates_k + width, inside).to(kind))
        value = tl.load(values + frame * values_k, inside).to(kind)
        passed = tl.load(skip + frame * skip_k, inside).to(kind)
        row_of = (b * frames + frame) * segments + s
        place = row_of * width + channel
        state, given = tl.load(states + place, inside), tl.load(grad + place, inside).to(kind)
        past = place + tl.where(backwards, 1, -1) * segments * width
        first = tl.where(backwards, frames - 1, 0)
        before = tl.load(states + past, inside & (frame != first), other=0.0)
        total = given * reset + later
        later = forget * total
        tl.store(grad_skip + place, given - given * reset, inside)
        tl.store(grad_values + place, total - later, inside)
        place += row_of * width  # Gates have twice as many channels.
        tl.store(grad_gates + place, (before - value) * total * forget * (1 - forget), inside)
        tl.store(grad_gates + place + width, (state - passed) * given * reset * (1 - reset), inside)


def forward(gates: Tensor, values: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """What `sru_cell` gives, and all states: (b, k, s, 2 * width), fp32 at least."""
    gates, values, skip = _rows(gates), _rows(values), _rows(skip)
    states = torch.empty(values.shape, dtype=torch.promote_types(values.dtype, torch.float32), device=values.device)
    outputs = torch.empty_like(states)
    with torch.cuda.device_of(values):
        _forward_kernel[_grid(values)](
            gates, values, skip, outputs, states, *_sizes(values), *_strides(gates, values, skip), block=BLOCK
        )
    return outputs, states


def backward(
    grad: Tensor, gates: Tensor, values: Tensor, skip: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `gates`, `values` and `skip`, each in its own precision."""
    gates, values, skip = _rows(gates), _rows(values), _rows(skip)
    made = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (gates, values, skip)]
    with torch.cuda.device_of(values):
        _backward_kernel[_grid(values)](
            grad.contiguous(), gates, values, skip, states, *made,
            *_sizes(values), *_strides(gates, values, skip), block=BLOCK,
        )  # fmt: skip
    return made[0], made[1], made[2]


def _rows(x: Tensor) -> Tensor:
    """With channels that lie beside one another, as the kernels read them."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _grid(values: Tensor) -> tuple[int, int]:
    batch, _, segments, width = values.shape
    return batch * segments, triton.cdiv(width, BLOCK)


def _sizes(values: Tensor) -> tuple[int, int, int]:
    _, frames, segments, width = values.shape
    return frames, segments, width


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for tensor in tensors for stride in tensor.stride()[:3]]
