"""Long audio as windows of equal length, for what hears only so much at once."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


def window_starts(length: int, window: int, stride: int, loop: bool = False) -> list[int]:
    """Where windows begin that cover `length` samples or frames; the last one ends with them. One if that suffices.

    Windows of a loop go on at its beginning, so that it has no end.
    """
    if loop:
        return list(range(0, length, stride))
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def windows_of_blocks(
    blocks: Iterable[Float[Tensor, "b c _ *axes"]], length: int, window: int, stride: int
) -> Iterator[tuple[int, int, Float[Tensor, "b c window *axes"]]]:
    """The windows of `length` frames that come in blocks, each as soon as it is whole: where it begins, where the next
    one does (after the last, the end), and what it holds."""
    waiting = iter(blocks)
    held = next(waiting)
    for start, following in pairwise([*window_starts(length, window, stride), length]):
        while held.shape[2] < min(window, length):
            held = torch.cat([held, next(waiting)], dim=2)
        yield start, following, held[:, :, :window]
        held = held[:, :, following - start :]


def whole_windows(waveform: Float[Tensor, "b 1 t"], window: int) -> Float[Tensor, "b l 1 samples"]:
    """Long audio as windows of `window` samples; audio that is not longer is one window as it is.

    Their number is t / window, rounded; they are spread evenly from the first sample to the last, or begin with the
    first if there is only one. Neighbours overlap by at most half; less than half a window is left out in all.
    """
    length = waveform.shape[-1]
    count = max(1, (2 * length + window) // (2 * window))
    starts = [(length - window) * index // (count - 1) for index in range(count)] if count > 1 else [0]
    return torch.stack([waveform[..., start : start + window] for start in starts], dim=1)
