"""What a sound file's header promises beyond what libsndfile tells: libsndfile believes a file that was cut short."""

import io
from pathlib import Path
from typing import Any, Literal, NamedTuple

# Data sizes that programs write which cannot know the length yet, because they write to a pipe.
UNKNOWN_SIZES = (range(1), range(0x7FFF0000, 0x80000001), range(0xFFFFF000, 0x100000000))
# Longer than any Ogg page.
OGG_TAIL = 1 << 17
OGG_PAGE_HEADER = 27
OGG_END_OF_STREAM = 4


class WavData(NamedTuple):
    """Where a WAV file's samples are.

    Attributes:
        size_at: the byte at which the header says how many bytes of samples there are.
        promised: what it says, 0 if it leaves that open.
        present: bytes from the first sample to the end of the file.
        order: of the bytes in the header's numbers.
        unclosed: whether the header is still that of an empty file, though the file is not.
    """

    size_at: int
    promised: int
    present: int
    order: Literal["little", "big"]
    unclosed: bool

    def promised_frames(self, frames: int) -> int:
        """How many frames there should be, of which `frames` can be read; more than these if the end is missing."""
        if self.promised <= self.present:
            return frames
        # In proportion, whatever the encoding is; a byte that nothing was read of counts as a frame.
        return frames * self.promised // self.present if self.present and frames else self.promised


class UnclosedWav(io.FileIO):
    """A WAV file whose writer never came to say how long it is, with a header that says so."""

    def __init__(self, path: Path, data: WavData) -> None:
        super().__init__(path)
        self._at, self._size = data.size_at, data.present.to_bytes(4, data.order)

    def readinto(self, buffer: Any) -> int:
        """Read as a file does."""
        place = self.tell()
        count = super().readinto(buffer)
        read = memoryview(buffer).cast("B")[:count]
        for offset, value in enumerate(self._size, start=self._at - place):
            if 0 <= offset < len(read):
                read[offset] = value
        return count


def lacks_ogg_end(path: Path) -> bool:
    """Whether it is an Ogg file that stops before its last page, the one that says it is the last."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        size = file.seek(0, 2)
        file.seek(max(0, size - OGG_TAIL))
        tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    if len(page) < OGG_PAGE_HEADER or not page.startswith(b"OggS"):
        return True
    segments = page[OGG_PAGE_HEADER : OGG_PAGE_HEADER + page[26]]
    whole = len(segments) == page[26] and len(page) >= OGG_PAGE_HEADER + len(segments) + sum(segments)
    return not (whole and page[5] & OGG_END_OF_STREAM)


def wav_data(path: Path) -> WavData | None:
    """Where the samples are; None if it is no WAV file, or has none."""
    long_size = 0
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        riff = file.read(12)
        order: Literal["little", "big"] = "big" if riff[:4] == b"RIFX" else "little"
        if riff[:4] not in (b"RIFF", b"RIFX", b"RF64") or riff[8:] != b"WAVE":
            return None
        whole = int.from_bytes(riff[4:8], order)
        while len(head := file.read(8)) == 8:
            length, body = int.from_bytes(head[4:], order), file.tell()
            if head[:4] == b"data":
                promised = long_size or (0 if _unknown(length) else length)
                # An empty file may have other chunks after its samples; then it knows its own size.
                unclosed = length == 0 < size - body < 1 << 32 and (whole + 8 < size or _unknown(whole))
                return WavData(body - 4, promised, size - body, order, unclosed)
            if head[:4] == b"ds64":
                long_size = int.from_bytes(file.read(16)[8:], order)
            file.seek(body + length + length % 2)
    return None


def _unknown(size: int) -> bool:
    return any(size in sizes for sizes in UNKNOWN_SIZES)
