"""Long audio as windows of equal length, for what hears only so much at once."""

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


def whole_windows(waveform: Float[Tensor, "b 1 t"], window: int) -> Float[Tensor, "b l 1 samples"]:
    """Long audio as windows of `window` samples; audio that is not longer is one window as it is.

    Their number is t / window, rounded; they are spread evenly from the first sample to the last, or begin with the
    first if there is only one. Neighbours overlap by at most half; less than half a window is left out in all.
    """
    length = waveform.shape[-1]
    count = max(1, (2 * length + window) // (2 * window))
    starts = [(length - window) * index // (count - 1) for index in range(count)] if count > 1 else [0]
    return torch.stack([waveform[..., start : start + window] for start in starts], dim=1)
