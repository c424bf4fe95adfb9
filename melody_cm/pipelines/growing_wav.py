"""WAV files and streams that grow while the music is made."""

import os
import wave
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.audio import FORMATS, GeneratedAudio
from melody_cm.storage import locked, naming_full_disks, write_atomically

MAX_BYTES = 2**32 - 100  # A WAV file counts its bytes with 32 bits.
BLOCK = 2**16  # Samples that are encoded at a time.


def check_size(seconds: float | int, sample_rate: int) -> None:
    """Refuse with a ValueError lengths that no WAV file holds: more than 4 GiB of 24-bit samples."""
    longest = MAX_BYTES / 3 / sample_rate
    if seconds > longest:
        raise ValueError(f"{seconds:g} seconds asked for, but a WAV file at {sample_rate} Hz holds {longest:.0f} s")


def stream_wav(blocks: Iterable[GeneratedAudio], seconds: float | int, file: Any) -> None:
    """Write one clip (else a ValueError) as a 16-bit WAV to a stream that cannot be rewound, such as the standard
    output, block by block.

    Args:
        seconds: how long all blocks are together, which the header says at once.
        file: takes bytes by `write`.
    """
    with wave.open(file, "wb") as stream:
        for number, block in enumerate(blocks):
            if len(block) != 1:
                raise ValueError(f"{len(block)} clips do not fit into one stream; give one prompt")
            if number == 0:
                stream.setparams((1, 2, block.sample_rate, round(seconds * block.sample_rate), "NONE", ""))
            stream.writeframesraw(pcm(block.waveform[0], 2))
            file.flush()


def pcm(waveform: Float[Tensor, "1 t"], sample_bytes: int) -> bytes:
    """Samples in [-1, 1] as signed little-endian integers of 2 or 3 bytes."""
    full = 2 ** (8 * sample_bytes - 1)
    integers = (waveform[0].double() * full).round().clamp(-full, full - 1).int().cpu()
    data = integers.contiguous().view(torch.uint8).reshape(len(integers), 4)[:, :sample_bytes]
    return data.contiguous().numpy().tobytes()


class GrowingWav:
    """Mono PCM of 2 or 3 bytes a sample, block after block; its header is right after each, so whatever stops the
    writing leaves all before.

    Until it is finished its name ends in `.partial.wav`; so it does if the block in which it is used raises an error.
    When it is, it replaces an older file at `path`, encoded if that has another suffix (`FORMATS` of
    `melody_cm.audio`). A sample x is stored as round(x * 2^15) (or 2^23), so that samples that were read from such a
    file come back as they were.
    """

    def __init__(self, path: Path, sample_rate: int, sample_bytes: int = 2) -> None:
        self.path, self.partial = path, path.with_suffix(".partial.wav")
        self.sample_rate, self.sample_bytes = sample_rate, sample_bytes
        self.samples = 0

    def __enter__(self) -> "GrowingWav":
        taken = f"{self.partial}: another command is writing it; wait for it, or give another --out"
        for left in self.partial.parent.glob(".*.partial.wav.lock"):  # A killed command leaves it.
            with suppress(ValueError), locked(left, "in use"):
                pass
        with ExitStack() as held:
            held.enter_context(locked(self.partial.with_name(f".{self.partial.name}.lock"), taken))
            self._file = self.partial.open("w+b")
            self._held = held.pop_all()
        self._wav = wave.open(self._file, "wb")
        self._wav.setparams((1, self.sample_bytes, self.sample_rate, 0, "NONE", ""))
        return self

    def write(self, waveform: Float[Tensor, "1 t"]) -> None:
        """Add samples in [-1, 1]."""
        with naming_full_disks(self.path, self.partial):
            self._wav.writeframes(pcm(waveform, self.sample_bytes))
            self._file.flush()
        self.samples += waveform.shape[-1]

    def _encode(self, aside: Path) -> None:
        suffix = self.path.suffix.lower()
        kind = "PCM_24" if suffix == ".flac" and self.sample_bytes == 3 else FORMATS[suffix]
        with soundfile.SoundFile(aside, "w", self.sample_rate, 1, kind, format=suffix[1:]) as file:
            for block in soundfile.blocks(self.partial, BLOCK, dtype="float32"):
                file.write(block)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._held:
            self._end(kind is None)

    def _end(self, whole: bool) -> None:
        # What could not be written is tried again by each of these; the first error has said why.
        with naming_full_disks(self.path, self.partial) if whole else suppress(OSError):
            self._wav.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        with suppress(OSError):
            self._file.close()
        if whole and self.path.suffix.lower() == ".wav":
            self.partial.replace(self.path)
        elif whole:
            write_atomically(self.path, self._encode)
            self.partial.unlink()
        elif not self.samples:
            self.partial.unlink()
