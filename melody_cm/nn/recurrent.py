"""Bidirectional simple recurrent unit (arXiv 1709.02755), the variant whose gates see the input alone.

Without the state in its gates the cell is a linear recurrence, so all matrix products run at once for all frames and
only one fused multiply-add a frame is sequential: `benchmarks/recurrence.py` shows why that loop is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class GatedAverage(torch.autograd.Function):
    """`c_t = gate_t * c_{t-1} + (1 - gate_t) * value_t` along axis 1, from c = 0, with its exact gradient.

    The gradient of a linear recurrence is one that runs backwards in time; written out, it costs one operation a frame
    where autograd's record of the loop costs several. Once differentiable.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, gates: Tensor, reverse: bool) -> Tensor:
        states = torch.empty_like(values, memory_format=torch.contiguous_format)
        state = torch.zeros_like(values[:, 0])
        for t in _times(values.shape[1], reverse):
            state = torch.lerp(values[:, t], state, gates[:, t], out=states[:, t])
        ctx.save_for_backward(values, gates, states)
        ctx.reverse = reverse
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        values, gates, states = ctx.saved_tensors
        # total_t = grad_t + gate_{t+1} * total_{t+1}
        total = torch.empty_like(states)
        times = _times(grad.shape[1], not ctx.reverse)
        total[:, times[0]] = grad[:, times[0]]
        for later, t in zip(times, times[1:], strict=False):
            torch.addcmul(grad[:, t], gates[:, later], total[:, later], out=total[:, t])
        before = torch.zeros_like(states)
        if ctx.reverse:
            before[:, :-1] = states[:, 1:]
        else:
            before[:, 1:] = states[:, :-1]
        return total - total * gates, total * before.sub_(values), None


def _times(length: int, reverse: bool) -> range:
    return range(length - 1, -1, -1) if reverse else range(length)


class SRULayer(nn.Module):
    """One bidirectional layer: (b, k, s, in_width) -> (b, k, s, 2 * width), a recurrence along axis 1.

    Per direction and channel: `f = sigmoid(Wf x + bf)`, `r = sigmoid(Wr x + br)`, `c` the gated average of `W x`,
    output `r * c + (1 - r) * skip`. The skip is x itself where the widths allow it, each direction taking its half of
    the channels, else `Wh x`.

    Args:
        in_width: width of the input.
        width: width of each direction.
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
        bias = F.pad(self.gate_bias, (0, (self.parts - 2) * 2 * self.width))
        gates, rest = F.linear(x, self.weight, bias).split([4 * self.width, (self.parts - 2) * 2 * self.width], dim=-1)
        # bf16 would forget small updates of a slowly moving state.
        precision = torch.promote_types(x.dtype, torch.float32)
        forget, reset = gates.to(precision).sigmoid().chunk(2, dim=-1)
        values, skip = (rest, x) if self.parts == 3 else rest.chunk(2, dim=-1)
        values = values.to(precision).split(self.width, dim=-1)
        forget = forget.split(self.width, dim=-1)
        states = [GatedAverage.apply(v, f, d) for v, f, d in zip(values, forget, (False, True), strict=True)]
        return torch.lerp(skip.to(precision), torch.cat(states, dim=-1), reset).to(x.dtype)


class BidirectionalSRU(nn.Module):
    """A stack of bidirectional SRU layers and a projection back to the input's width.

    Args:
        width: of input, output and each direction.
        num_layers: of the stack.
    """

    def __init__(self, width: int, num_layers: int = 2) -> None:
        super().__init__()
        widths = [width] + [2 * width] * (num_layers - 1)
        self.layers = nn.Sequential(*(SRULayer(in_width, width) for in_width in widths))
        self.output = nn.Linear(2 * width, width)

    def forward(self, x: Float[Tensor, "b k s d"]) -> Float[Tensor, "b k s d"]:
        """Run along the k frames of each of s segments."""
        return self.output(self.layers(x))
