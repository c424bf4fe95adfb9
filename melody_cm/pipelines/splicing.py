"""New music beside given music: the samples given are kept, and 20 ms of the seam are cross-faded."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

SILENT_PEAK = 1e-4


def fade_weights(length: int) -> Float[Tensor, " length"]:
    """Weights of the later sound, rising evenly from near 0 to near 1; the earlier sound has the rest of 1."""
    return (torch.arange(length) + 1) / (length + 1)


def cross_fade(
    earlier: Float[Tensor, "*rows t"], later: Float[Tensor, "*rows t"], weights: Float[Tensor, " t"]
) -> Float[Tensor, "*rows t"]:
    """`earlier` where the weight is 0, `later` where it is 1, bit for bit; between them their weighted sum."""
    weights = weights.to(earlier)
    mixed = (1 - weights) * earlier + weights * later
    return torch.where(weights <= 0, earlier, torch.where(weights >= 1, later, mixed))


def fade_in(tail: Float[Tensor, "b 1 f"], blocks: Iterable[Float[Tensor, "b 1 _"]]) -> Iterator[Float[Tensor, "b 1 _"]]:
    """The blocks, the first f samples of which lie over the end of what was given and are cross-faded with it."""
    weights, place = fade_weights(tail.shape[-1]), 0
    for block in blocks:
        seam = slice(place, min(tail.shape[-1], place + block.shape[-1]))
        length = max(0, seam.stop - seam.start)
        faded = cross_fade(tail[..., seam], block[..., :length], weights[seam])
        place += length
        yield torch.cat([faded, block[..., length:]], dim=-1)


def hole_weights(length: int, begin: int, end: int, fade: int) -> Float[Tensor, " length"]:
    """1 from sample `begin` up to `end`, where new sound is heard alone; a fade of `fade` samples on either side."""
    time = torch.arange(length)
    rise = (time - (begin - fade) + 1) / (fade + 1)
    fall = (end + fade - time) / (fade + 1)
    return torch.minimum(rise, fall).clamp(0, 1)


def check_music(waveform: Float[Tensor, "b 1 t"], what: str) -> None:
    """Refuse what is no music.

    Raises:
        ValueError: it is empty, silent or not finite; the message begins with `what` it is.
    """
    if not waveform.shape[-1]:
        raise ValueError(f"{what} has 0 samples; give at least 1")
    if not waveform.isfinite().all():
        raise ValueError(f"{what} has samples that are NaN or infinite; mend or replace it")
    if (waveform.abs().flatten(1).amax(1) < SILENT_PEAK).any():
        raise ValueError(f"{what} is silent, no sample above {SILENT_PEAK:g}; give music that can be heard")
