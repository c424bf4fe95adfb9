"""Sound block by block: decoded while its latent is still being made, cross-faded and cut, at constant memory.

Two kinds of decoders are told apart. `decode_blocks` is for those that look only so far around (waveform decoders,
vocoders): together its blocks are the whole, decoded at once. Decoders of mel latents have group norms (and some have
attention) over all they are given, so decoding with them is *defined* as `decode_tiles`: pieces of the trained length
that overlap and are cross-faded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.audio import GeneratedAudio
from melody_cm.autoencoders import MelAutoencoder
from melody_cm.interfaces import Autoencoder, Vocoder
from melody_cm.signal import PHASE_PERIOD
from melody_cm.signal.windows import windows_of_blocks

Decode = Callable[[Tensor], Tensor]
Waveforms = Iterator[Float[Tensor, "b 1 _"]]
# Of a tile: its outermost part, which lacks a neighbour on one side, counts nothing; then it fades in.
MARGIN, FADE = 1 / 8, 1 / 4
MOST_CONTEXT = 1024  # Mel frames.


def each_within(context: Callable[[], AbstractContextManager], blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """The blocks, each made within a context of its own; whoever takes them is outside."""
    while True:
        with context():
            block = next(blocks, None)
        if block is None:
            return
        yield block


def one_ahead(blocks: Iterator[GeneratedAudio]) -> Iterator[GeneratedAudio]:
    """The blocks, of which a thread makes the next one while the caller plays the last; never more than one ahead."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        following = worker.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = worker.submit(next, blocks, None)
            yield block


def joined(blocks: Iterable[GeneratedAudio]) -> GeneratedAudio:
    """Blocks of the same clips one after another; their timings add up."""
    blocks = list(blocks)
    timings: Counter[str] = Counter()
    for block in blocks:
        timings.update(block.timings)
    first, waveform = blocks[0], torch.cat([block.waveform for block in blocks], dim=-1)
    return GeneratedAudio(waveform, first.sample_rate, dict(timings), prompts=first.prompts)


def cropped(blocks: Iterable[Float[Tensor, "b 1 _"]], start: int, length: int) -> Waveforms:
    """Samples `start` up to `start + length` of blocks; those after are not made."""
    place = 0
    for block in blocks:
        part = block[..., max(0, start - place) : max(0, start + length - place)]
        place += block.shape[-1]
        if part.shape[-1]:
            yield part
        if place >= start + length:
            return


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


def fade_in(tail: Float[Tensor, "b 1 f"], blocks: Iterable[Float[Tensor, "b 1 _"]]) -> Waveforms:
    """The blocks, the first f samples of which lie over the end of what was given and are cross-faded with it."""
    weights, place = fade_weights(tail.shape[-1]), 0
    for block in blocks:
        seam = slice(place, min(tail.shape[-1], place + block.shape[-1]))
        length = max(0, seam.stop - seam.start)
        faded = cross_fade(tail[..., seam], block[..., :length], weights[seam])
        place += length
        yield torch.cat([faded, block[..., length:]], dim=-1)


def close_loop(blocks: Iterable[Float[Tensor, "b 1 _"]], before: int, fade: int, length: int) -> Waveforms:
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
) -> Waveforms:
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


def decode_long(
    autoencoder: Autoencoder, latents: Iterable[Float[Tensor, "b c _ *f"]], length: int, window: int
) -> Waveforms:
    """The waveform of a long latent, block by block.

    Args:
        latents: one after another, `length` frames together.
        window: latent frames of the trained length.
    """
    if isinstance(autoencoder, MelAutoencoder):
        device = next(autoencoder.parameters()).device
        mels = decode_tiles(latents, length, autoencoder.decode_mel, window)
        yield from (block.clamp(-1, 1) for block in vocode(mels, autoencoder.vocoder, device))
        return
    tiles = decode_tiles(latents, length, lambda piece: autoencoder.decode(piece).transpose(1, 2), window)
    yield from (tile.transpose(1, 2) for tile in tiles)


def tile_weights(length: int) -> Float[Tensor, " length"]:
    """The weight of each frame of a tile: 0 at its edges, 1 in its middle; with tiles half a length on, 1 in sum."""
    place = (torch.arange(length) + 0.5) / length
    rise = ((place - MARGIN) / FADE).clamp(0, 1)
    return torch.minimum(rise, rise.flip(0))


def decode_tiles(
    latents: Iterable[Float[Tensor, "b c _ *f"]], length: int, decode: Decode, window: int
) -> Iterator[Float[Tensor, "b _ k"]]:
    """What tiles of `window` frames decode to, cross-faded; a block is given away when no later tile reaches it.

    Args:
        latents: one after another, `length` frames together.
        decode: (b, c, window, ...) -> (b, window * ratio, k), for any whole ratio.
    """
    sums: Tensor | None = None
    for start, following, tile in windows_of_blocks(latents, length, window, max(1, window // 2)):
        decoded = decode(tile)
        ratio = decoded.shape[1] // window
        weights = tile_weights(window * ratio).to(decoded)
        half = len(weights) // 2
        if start == 0:
            weights[:half] = 1
        if following == length:
            weights[half:] = 1
        # The weights go along as one more channel, so that what is held back holds both.
        weighted = torch.cat([decoded * weights[:, None], weights[:, None].expand(len(decoded), -1, 1)], dim=2)
        if sums is not None:
            weighted[:, : sums.shape[1]] += sums
        end = (following - start) * ratio
        yield weighted[:, :end, :-1] / weighted[:, :end, -1:]
        sums = weighted[:, end:]


def vocode(mels: Iterable[Float[Tensor, "b _ f"]], vocoder: Vocoder, device: torch.device) -> Waveforms:
    """The waveform of a log-mel that comes in blocks, with the sound of vocoding it whole.

    Raises:
        ValueError: a vocoder that looks further than 1024 frames around.
    """
    hop_length, num_mels = vocoder.mel_settings.hop_length, vocoder.mel_settings.num_mels

    def decode(mel: Float[Tensor, "b f l"]) -> Float[Tensor, "b 1 t"]:
        return vocoder(mel.transpose(1, 2))

    context = context_frames(decode, num_mels, hop_length, MOST_CONTEXT, device)
    blocks = (mel.transpose(1, 2) for mel in _gathered(mels, 4 * context))
    yield from decode_blocks(blocks, decode, context, hop_length, aligned=PHASE_PERIOD)


def _gathered(blocks: Iterable[Float[Tensor, "b _ f"]], least: int) -> Iterator[Float[Tensor, "b _ f"]]:
    """The same frames in blocks of at least so many, so that context is not most of the work."""
    held: list[Tensor] = []
    for block in blocks:
        held.append(block)
        if sum(each.shape[1] for each in held) >= least:
            yield torch.cat(held, dim=1)
            held = []
    if held:
        yield torch.cat(held, dim=1)
