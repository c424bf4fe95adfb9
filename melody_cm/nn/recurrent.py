"""Bidirectional simple recurrent unit (arXiv 1709.02755), the variant whose gates see the input alone.

Without the state in its gates the cell is a linear recurrence, so all matrix products run at once for all frames and
only one fused multiply-add a frame is sequential: `benchmarks/recurrence.py` shows why that loop is kept. A GPU runs it
as one kernel instead (`recurrent_triton.py`) where Triton is.
"""

import functools
import itertools
import warnings
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def _loop(gates: Tensor, values: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """What `sru_cell` gives, and all states."""
    forget, reset = _single(gates).sigmoid().chunk(2, dim=-1)
    values, skip = _single(values), _single(skip)
    states = torch.empty_like(values, memory_format=torch.contiguous_format)
    for value, gate, state, steps in _directions(values, forget, states):
        before = torch.zeros_like(value[:, 0])
        for t in steps:
            before = torch.lerp(value[:, t], before, gate[:, t], out=state[:, t])
    return torch.lerp(skip, states, reset), states


def _loop_backward(
    grad: Tensor, gates: Tensor, values: Tensor, skip: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `gates`, `values` and `skip`, each in its own precision."""
    opened = _single(gates).sigmoid()
    forget, reset = opened.chunk(2, dim=-1)
    total = grad * reset
    grad_skip = grad - total
    for gate, grads, steps in _directions(forget, total):
        # total_t += f_{t+1} * total_{t+1}, later being t + 1 in the direction's own time
        for later, t in itertools.pairwise(reversed(steps)):
            grads[:, t].addcmul_(gate[:, later], grads[:, later])
    grad_gates = torch.addcmul(opened, opened, opened, value=-1)
    grad_forget, grad_reset = grad_gates.chunk(2, dim=-1)
    grad_forget.mul_(_before(states).sub_(values)).mul_(total)
    grad_reset.mul_(states - skip).mul_(grad)
    grad_values = torch.addcmul(total, total, forget, value=-1)
    return grad_gates.to(gates.dtype), grad_values.to(values.dtype), grad_skip.to(skip.dtype)


_cell = torch.library.custom_op("melody_cm::sru_cell", _loop, mutates_args=())
_cell_backward = torch.library.custom_op("melody_cm::sru_cell_backward", _loop_backward, mutates_args=())


@_cell.register_kernel("cuda")
def _(gates: Tensor, values: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    kernels = _kernels()
    return kernels.forward(gates, values, skip) if kernels else _loop(gates, values, skip)


@_cell_backward.register_kernel("cuda")
def _(grad: Tensor, gates: Tensor, values: Tensor, skip: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kernels = _kernels()
    inputs = (grad, gates, values, skip, states)
    return kernels.backward(*inputs) if kernels else _loop_backward(*inputs)


@functools.cache
def _kernels() -> ModuleType | None:
    """Those of Triton, once they have run; without Triton, or a compiler for it, none, and a line that says so."""
    try:
        import melody_cm.nn.recurrent_triton as kernels

        kernels.forward(*(torch.zeros(1, 1, 1, width, device="cuda") for width in (4, 2, 2)))
    except Exception as error:  # Triton and what it calls raise many kinds.
        warnings.warn(f"the recurrence of the dual-path network runs frame by frame, slowly: {error}", stacklevel=2)
        return None
    return kernels


@_cell.register_fake
def _(gates: Tensor, values: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    made = values.new_empty(values.shape, dtype=_single_type(values))
    return made, torch.empty_like(made)


@_cell_backward.register_fake
def _(grad: Tensor, gates: Tensor, values: Tensor, skip: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    made = (x.new_empty(x.shape) for x in (gates, values, skip))
    return next(made), next(made), next(made)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    # The inputs as they came: they are parts of one product, which a part of it would keep alive anyhow.
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _cell_backward(grad, *ctx.saved_tensors)


_cell.register_autograd(_gradient, setup_context=_keep)


def sru_cell(gates: Tensor, values: Tensor, skip: Tensor) -> Tensor:
    """Everything of a bidirectional SRU layer after its matrix product, with its exact gradient; time is axis 1.

    `c_t = f_t * c_{t-1} + (1 - f_t) * value_t` from c = 0, output `r * c + (1 - r) * skip`. The gradient of such a
    recurrence is one that runs backwards in time; written out, it costs one operation a frame and no copies, where
    autograd's record of the loop costs several. Once differentiable. To a compiler it is one operation.

    Args:
        gates: (b, k, s, 4 * width) before their sigmoid: forget gates of both directions, then reset gates.
        values, skip: (b, k, s, 2 * width).

    Returns:
        (b, k, s, 2 * width), fp32 at least: bf16 would forget small updates of a slowly moving state.
    """
    return _cell(gates, values, skip)[0]


def _single_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _single(x: Tensor) -> Tensor:
    return x.to(_single_type(x))


def _directions(*tensors: Tensor) -> list[tuple[Any, ...]]:
    """Each tensor's half of the channels, and the order of the frames, for the forward and the backward direction."""
    halves = [x.chunk(2, dim=-1) for x in tensors]
    length = tensors[0].shape[1]
    return [(*(h[0] for h in halves), range(length)), (*(h[1] for h in halves), range(length - 1, -1, -1))]


def _before(states: Tensor) -> Tensor:
    """The state each frame found: of the frame before in the first half of the channels, after in the second."""
    found = torch.zeros_like(states)
    width = states.shape[-1] // 2
    found[:, 1:, ..., :width] = states[:, :-1, ..., :width]
    found[:, :-1, ..., width:] = states[:, 1:, ..., width:]
    return found


class SRULayer(nn.Module):
    """One bidirectional layer: (b, k, s, in_width) -> (b, k, s, 2 * width), a recurrence along axis 1.

    Per direction and channel: `f = sigmoid(Wf x + bf)`, `r = sigmoid(Wr x + br)`, `c` the gated average of `W x`,
    output `r * c + (1 - r) * skip`. The skip is x itself where the widths allow it, each direction taking its half of
    the channels, else `Wh x`.
    """

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.parts = 3 if in_width == 2 * width else 4
        self.weight = nn.Parameter(torch.empty(self.parts * 2 * width, in_width))
        self.gate_bias = nn.Parameter(torch.zeros(4 * width))
        # The variance that keeps W x as large as x (the SRU paper, section 3.2).
        bound = (3 / in_width) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Float[Tensor, "b k s i"]) -> Float[Tensor, "b k s o"]:
        """Frames first to last in the lower half of the output channels, last to first in the upper half."""
        sizes = [4 * self.width, *[2 * self.width] * (self.parts - 2)]
        bias = F.pad(self.gate_bias, (0, sum(sizes[1:])))
        gates, values, *skip = F.linear(x, self.weight, bias).split(sizes, dim=-1)
        return sru_cell(gates, values, skip[0] if skip else x).to(x.dtype)


class BidirectionalSRU(nn.Module):
    """Two bidirectional SRU layers, each direction as wide as the input, and a projection back to that width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(SRULayer(width, width), SRULayer(2 * width, width))
        self.output = nn.Linear(2 * width, width)

    def forward(self, x: Float[Tensor, "b k s d"]) -> Float[Tensor, "b k s d"]:
        """Run along the k frames of each of s segments."""
        return self.output(self.layers(x))
