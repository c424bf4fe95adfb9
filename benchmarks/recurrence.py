"""Which recurrence should the simple recurrent unit use: the loop of `melody_cm.nn.SRUCell`, or a logarithmic scan?

    python benchmarks/recurrence.py --shape 8 32 41 64 --threads 1

Prints milliseconds of a forward and of a forward and backward pass, the best of several; CPU time of the process, so
that a busy machine does not decide (wall time on a GPU). On 2 cores of a Xeon with AVX-512, fp32, one thread:

    shape (b, k, s, d)        loop              log scan          autograd's loop
    8 x 32 x 41 x 64          TABLE
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from melody_cm.nn import SRUCell


def fused_loop(gates: Tensor, values: Tensor, skip: Tensor) -> Tensor:
    """What the library uses: one operation a frame, gradient written out."""
    return SRUCell.apply(gates, values, skip)


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


def milliseconds(run: Callable[[], object], device: torch.device, repetitions: int) -> float:
    """The best of several runs."""
    run()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(repetitions):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return 1000 * min(times)


def main() -> None:
    """Time the three on one shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=4, default=[8, 32, 41, 64], metavar=("B", "K", "S", "D"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    batch, frames, segments, width = arguments.shape
    gates, values, skip = (
        torch.randn(batch, frames, segments, parts * width, device=device, requires_grad=True) for parts in (4, 2, 2)
    )
    for name, recurrence in {"loop": fused_loop, "log scan": log_scan, "autograd's loop": autograd_loop}.items():
        with torch.no_grad():
            forward = milliseconds(lambda: recurrence(gates, values, skip), device, arguments.repetitions)  # noqa: B023
        both = milliseconds(lambda: recurrence(gates, values, skip).sum().backward(), device, arguments.repetitions)  # noqa: B023
        print(f"{name:16} forward {forward:8.1f} ms   forward and backward {both:8.1f} ms")


if __name__ == "__main__":
    main()
