"""Decoding a latent block by block while it is still being made, with the sound of decoding it whole."""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

Decode = Callable[[Tensor], Tensor]


def context_frames(decode: Decode, channels: int, hop_length: int, limit: int, device: torch.device) -> int:
    """How many frames to either side of its own a decoder's sound depends on: as far as one NaN spreads.

    Args:
        decode: latent (1, c, l) -> waveform (1, 1, l * hop_length).
        channels: c.
        limit: frames; a decoder that looks further cannot be used block by block.

    Raises:
        ValueError: it looks further than `limit`.
    """
    radius = 8
    while radius < limit:
        latent = torch.zeros(1, channels, 2 * radius + 1, device=device)
        latent[..., radius] = torch.nan
        reached = decode(latent)[0, 0].isnan().nonzero() // hop_length
        first, last = int(reached[0]), int(reached[-1])
        if first > 0 and last < 2 * radius:
            return max(radius - first, last - radius)
        radius *= 2
    raise ValueError(
        f"this decoder looks further than the {limit} latent frames of its trained length, so long music cannot be "
        "decoded block by block; use a convolutional decoder"
    )


def decode_blocks(
    latents: Iterable[Float[Tensor, "b c _"]],
    decode: Decode,
    context: int,
    hop_length: int,
    past: Float[Tensor, "b c k"] | None = None,
    aligned: int = 1,
) -> Iterator[Float[Tensor, "b 1 _"]]:
    """Waveforms that together are the latents decoded as one; a block lags behind its latent by `context` frames.

    Args:
        latents: one after another, of any lengths.
        context: frames to either side that the decoder must see (`context_frames`).
        past: frames before the first latent, whose sound is not wanted.
        aligned: what is decoded begins at multiples of so many frames.
    """
    held, decoded = (None, 0) if past is None else (past, past.shape[-1])
    for latent in latents:
        held = latent if held is None else torch.cat([held, latent], dim=-1)
        end = held.shape[-1] - context
        if end > decoded:
            yield decode(held)[..., decoded * hop_length : end * hop_length]
            drop = max(0, end - context) // aligned * aligned
            held, decoded = held[..., drop:], end - drop
    if held is not None and held.shape[-1] > decoded:
        yield decode(held)[..., decoded * hop_length :]
