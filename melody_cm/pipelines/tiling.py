"""Decoding a long latent in pieces of the trained length, and making sound of the pieces, in constant memory.

The decoders of mel autoencoders have group norms (and some have attention) over all they are given, so that a piece
depends on what it is decoded with. Decoding is therefore *defined* as this tiling: each piece is as long as in
training, and overlapping pieces are cross-faded. Where a decoder is local, that is the same as decoding the whole.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.autoencoders import MelAutoencoder
from melody_cm.diffusion import window_starts
from melody_cm.interfaces import Autoencoder, Vocoder
from melody_cm.pipelines.decoding import context_frames, decode_blocks
from melody_cm.pipelines.splicing import cross_fade, fade_weights
from melody_cm.signal import PHASE_PERIOD

# Of a window: its outermost part, which lacks a neighbour on one side, counts nothing; then it fades in.
MARGIN, FADE = 1 / 8, 1 / 4
MOST_CONTEXT = 1024


def sound(autoencoder: Autoencoder, latent: Float[Tensor, "b c l *f"], window: int) -> Iterator[Float[Tensor, "b 1 _"]]:
    """The waveform of a latent, block by block.

    Args:
        window: latent frames of the trained length.
    """
    if isinstance(autoencoder, MelAutoencoder):
        mels = decode_tiles(latent, autoencoder.decode_mel, window)
        yield from (block.clamp(-1, 1) for block in vocode(mels, autoencoder.vocoder, latent.device))
        return
    tiles = decode_tiles(latent, lambda piece: autoencoder.decode(piece).transpose(1, 2), window)
    yield from (tile.transpose(1, 2) for tile in tiles)


def tile_weights(length: int) -> Float[Tensor, " length"]:
    """The weight of each frame of a piece: 0 at its edges, 1 in its middle; with pieces half a length on, 1 in sum."""
    place = (torch.arange(length) + 0.5) / length
    rise = ((place - MARGIN) / FADE).clamp(0, 1)
    return torch.minimum(rise, rise.flip(0))


def decode_tiles(
    latent: Float[Tensor, "b c l *f"], decode: Callable[[Tensor], Tensor], window: int
) -> Iterator[Float[Tensor, "b _ k"]]:
    """What pieces of `window` frames decode to, cross-faded; a block is given away when no later piece reaches it.

    Args:
        decode: (b, c, window, ...) -> (b, window * ratio, k), for any whole ratio.
    """
    starts = window_starts(latent.shape[2], window, max(1, window // 2))
    sums: Tensor | None = None
    for place, start in enumerate(starts):
        decoded = decode(latent[:, :, start : start + window])
        ratio = decoded.shape[1] // window
        weights = tile_weights(window * ratio).to(decoded)
        half = len(weights) // 2
        if place == 0:
            weights[:half] = 1
        if place == len(starts) - 1:
            weights[half:] = 1
        # The weights go along as one more channel, so that what is held back holds both.
        weighted = torch.cat([decoded * weights[:, None], weights[:, None].expand(len(decoded), -1, 1)], dim=2)
        if sums is not None:
            weighted[:, : sums.shape[1]] += sums
        end = weighted.shape[1] if start == starts[-1] else (starts[place + 1] - start) * ratio
        yield weighted[:, :end, :-1] / weighted[:, :end, -1:]
        sums = weighted[:, end:]


def vocode(
    mels: Iterable[Float[Tensor, "b _ f"]], vocoder: Vocoder, device: torch.device
) -> Iterator[Float[Tensor, "b 1 _"]]:
    """The waveform of a log-mel that comes in blocks, with the sound of vocoding it whole.

    Raises:
        ValueError: a vocoder that looks further than 1024 frames around.
    """
    hop_length, num_mels = vocoder.mel_settings.hop_length, vocoder.mel_settings.num_mels

    def decode(mel: Float[Tensor, "b f l"]) -> Float[Tensor, "b 1 t"]:
        return vocoder(mel.transpose(1, 2))

    context = context_frames(decode, num_mels, hop_length, MOST_CONTEXT, device)
    blocks = (mel.transpose(1, 2) for mel in gathered(mels, 4 * context))
    yield from decode_blocks(blocks, decode, context, hop_length, aligned=PHASE_PERIOD)


def gathered(blocks: Iterable[Float[Tensor, "b _ f"]], least: int) -> Iterator[Float[Tensor, "b _ f"]]:
    """The same frames in blocks of at least so many, so that context is not most of the work."""
    held: list[Tensor] = []
    for block in blocks:
        held.append(block)
        if sum(each.shape[1] for each in held) >= least:
            yield torch.cat(held, dim=1)
            held = []
    if held:
        yield torch.cat(held, dim=1)


def close_loop(
    blocks: Iterable[Float[Tensor, "b 1 _"]], before: int, fade: int, length: int
) -> Iterator[Float[Tensor, "b 1 _"]]:
    """Music of `length` samples whose end goes over into its beginning.

    Args:
        blocks: music with `before` samples of its end before its beginning; what follows its end is not looked at.
        fade: samples; the end is cross-faded with what came before the beginning.
    """
    held, lead_in = None, None
    for block in cropped(blocks, before - fade, fade + length):
        held = block if held is None else torch.cat([held, block], dim=-1)
        if lead_in is None and held.shape[-1] >= fade:
            lead_in, held = held[..., :fade], held[..., fade:]
        if lead_in is not None and held.shape[-1] > fade:
            yield held[..., : held.shape[-1] - fade]
            held = held[..., held.shape[-1] - fade :]
    yield cross_fade(held, lead_in, fade_weights(fade))


def cropped(blocks: Iterable[Float[Tensor, "b 1 _"]], start: int, length: int) -> Iterator[Float[Tensor, "b 1 _"]]:
    """Samples `start` up to `start + length` of blocks; those after are not made."""
    place = 0
    for block in blocks:
        part = block[..., max(0, start - place) : max(0, start + length - place)]
        place += block.shape[-1]
        if part.shape[-1]:
            yield part
        if place >= start + length:
            return
