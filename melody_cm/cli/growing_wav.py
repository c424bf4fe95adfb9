"""A WAV file that is whole at every moment while it grows, and has its name when it is finished."""

import os
import wave
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Float
from torch import Tensor

# A WAV file counts its bytes with 32 bits.
MAX_BYTES = 2**32 - 100


def check_size(seconds: float, sample_rate: int) -> None:
    """Refuse lengths that no WAV file holds.

    Raises:
        ValueError: more than 4 GiB of 24-bit samples.
    """
    longest = MAX_BYTES / 3 / sample_rate
    if seconds > longest:
        raise ValueError(f"{seconds:g} seconds asked for, but a WAV file at {sample_rate} Hz holds {longest:.0f} s")


class GrowingWav:
    """Mono PCM, block after block; its header is right after each, so whatever stops the writing leaves all before.

    Until it is finished its name ends in `.partial.wav`; so it does if the block in which it is used raises an error.
    A sample x is stored as round(x * 2^15) (or 2^23), so that samples that were read from such a file come back as
    they were.

    Args:
        path: of the finished file, which replaces an older one.
        sample_rate: Hz.
        sample_bytes: 2 or 3 a sample.
    """

    def __init__(self, path: Path, sample_rate: int, sample_bytes: int = 2) -> None:
        self.path, self.partial = path, path.with_suffix(".partial.wav")
        self.sample_rate, self.sample_bytes = sample_rate, sample_bytes
        self.samples = 0

    def __enter__(self) -> "GrowingWav":
        self._file = self.partial.open("wb")
        self._wav = wave.open(self._file, "wb")
        self._wav.setparams((1, self.sample_bytes, self.sample_rate, 0, "NONE", ""))
        return self

    def write(self, waveform: Float[Tensor, "1 t"]) -> None:
        """Add samples in [-1, 1]."""
        full = 2 ** (8 * self.sample_bytes - 1)
        integers = (waveform[0].double() * full).round().clamp(-full, full - 1).int().cpu()
        data = integers.contiguous().view(torch.uint8).reshape(len(integers), 4)[:, : self.sample_bytes]
        self._wav.writeframes(data.contiguous().numpy().tobytes())
        self._file.flush()
        self.samples += waveform.shape[-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._wav.close()
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            self.partial.replace(self.path)
        elif not self.samples:
            self.partial.unlink()
