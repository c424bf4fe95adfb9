"""Which recurrence should the simple recurrent unit use: the loop of `melody_cm.nn.sru_cell`, or a logarithmic scan?

    python benchmarks/recurrence.py --shape 8 32 41 64 --threads 1

Prints milliseconds of a forward pass, and of a forward and backward pass, the best of several; CPU time of the process,
so that a busy machine does not decide (wall time on a GPU). One core of a Xeon with AVX-512, fp32, forward / both:

    shape (b, k, s, d)      loop          log scan        autograd's loop
    8 x 32 x 41 x 64        3 /  8 ms      6 /  31 ms      3 /  21 ms
    1 x 64 x 80 x 768      13 / 52 ms     59 / 289 ms     18 / 318 ms
    4 x 64 x 80 x 256      19 / 67 ms     76 / 452 ms     26 / 462 ms
"""

import argparse
import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from melody_cm.nn import sru_cell


def fused_loop(gates: Tensor, values: Tensor, skip: Tensor) -> Tensor:
    """What the library uses: one operation a frame, gradient written out."""
    return sru_cell(gates, values, skip)


def log_scan(gates: Tensor, values: Tensor, skip: Tensor) -> Tensor:
    """Hillis-Steele: log2(k) rounds over the whole tensor."""
    forget, reset = gates.sigmoid().chunk(2, dim=-1)
    decays, drives = forget.chunk(2, dim=-1), ((1 - forget) * values).chunk(2, dim=-1)
    forwards = _scan(decays[0], drives[0])
    backwards = _scan(decays[1].flip(1), drives[1].flip(1)).flip(1)
    return torch.lerp(skip, torch.cat([forwards, backwards], dim=-1), reset)


def _scan(decay: Tensor, state: Tensor) -> Tensor:
    shift = 1
    while shift < state.shape[1]:
        state = torch.cat([state[:, :shift], torch.addcmul(state[:, shift:], decay[:, shift:], state[:, :-shift])], 1)
        decay = torch.cat([decay[:, :shift], decay[:, shift:] * decay[:, :-shift]], 1)
        shift *= 2
    return state


def autograd_loop(gates: Tensor, values: Tensor, skip: Tensor) -> Tensor:
    """The plain loop, its gradient left to autograd."""
    forget, reset = gates.sigmoid().chunk(2, dim=-1)
    decays, drives = forget.chunk(2, dim=-1), values.chunk(2, dim=-1)
    forwards = _loop(decays[0], drives[0])
    backwards = _loop(decays[1].flip(1), drives[1].flip(1)).flip(1)
    return torch.lerp(skip, torch.cat([forwards, backwards], dim=-1), reset)


def _loop(decay: Tensor, value: Tensor) -> Tensor:
    states = [torch.zeros_like(value[:, 0])]
    for t in range(value.shape[1]):
        states.append(torch.lerp(value[:, t], states[-1], decay[:, t]))
    return torch.stack(states[1:], dim=1)


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run: CPU time, or wall time on a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (clock() - start)


def main() -> None:
    """Time the three on one shape, taking turns: who comes first pays for memory that the others find warm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=4, default=[8, 32, 41, 64], metavar=("B", "K", "S", "D"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    batch, frames, segments, width = arguments.shape
    inputs = [
        torch.randn(batch, frames, segments, parts * width, device=device, requires_grad=True) for parts in (4, 2, 2)
    ]
    recurrences = {"loop": fused_loop, "log scan": log_scan, "autograd's loop": autograd_loop}
    forward: dict[str, list[float]] = {name: [] for name in recurrences}
    both: dict[str, list[float]] = {name: [] for name in recurrences}
    for _ in range(arguments.repetitions):
        for name, recurrence in recurrences.items():
            with torch.no_grad():
                forward[name].append(milliseconds(functools.partial(recurrence, *inputs), device))
            both[name].append(milliseconds(functools.partial(forward_and_backward, recurrence, inputs), device))
    for name in recurrences:
        print(f"{name:16} forward {min(forward[name]):8.1f} ms   and backward {min(both[name]):8.1f} ms")


def forward_and_backward(recurrence: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """One training pass."""
    recurrence(*inputs).sum().backward()


if __name__ == "__main__":
    main()
