"""What a sound file's header promises beyond what libsndfile tells: libsndfile believes a file that was cut short."""

import io
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

Order = Literal["little", "big"]
# Data sizes that programs write which cannot know the length yet, because they write to a pipe.
UNKNOWN_SIZES = (
    range(1), range(0x7FFF0000, 0x80000001), range(0xFFFFF000, 0x100000000), range(2**64 - 4096, 2**64),
)  # fmt: skip
# More than any music has before its samples.
MAX_CHUNKS = 10_000
# Longer than any Ogg page.
OGG_TAIL = 1 << 17
OGG_PAGE_HEADER = 27


class Container(NamedTuple):
    """How files of chunks are laid out: bytes before the first chunk, of a chunk's name and of its size; the name of
    the chunk with the samples, and what it holds before them; what chunks are aligned to."""

    order: Order
    begin: int
    name: int
    size: int
    data: bytes
    extra: int = 0
    align: int = 2

    @property
    def head(self) -> int:
        """Bytes of a chunk before its body."""
        return self.name + self.size


CONTAINERS = {
    b"RIFF": Container("little", 12, 4, 4, b"data"),
    b"RF64": Container("little", 12, 4, 4, b"data"),
    b"RIFX": Container("big", 12, 4, 4, b"data"),
    b"FORM": Container("big", 12, 4, 4, b"SSND", extra=8),  # AIFF
    b"caff": Container("big", 8, 4, 8, b"data", extra=4, align=1),
    b"riff": Container("little", 40, 16, 8, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", align=8),  # W64
}


class SoundData(NamedTuple):
    """Where a file's samples are."""

    size_at: int  # The byte at which the header says how many bytes of samples there are.
    promised: int  # What it says, 0 if it leaves that open.
    present: int  # Bytes from the first sample to the end of the file.
    order: Order  # Of the bytes in the header's numbers.
    unclosed: bool  # Whether the header is still that of an empty WAV file, though the file is not.

    def promised_frames(self, frames: int) -> int:
        """How many frames there should be, of which `frames` can be read; more than these if the end is missing."""
        if self.promised <= self.present:
            return frames
        # In proportion, whatever the encoding is; a byte that nothing was read of counts as a frame.
        return frames * self.promised // self.present if self.present > 0 and frames else self.promised


class Spliced(io.RawIOBase):
    """A file whose beginning, up to byte `start`, is replaced by `head`."""

    def __init__(self, path: Path, head: bytes, start: int) -> None:
        self._file, self._head, self._start, self._place = path.open("rb"), head, start, 0
        self._size = len(head) + path.stat().st_size - start

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view, head = memoryview(buffer).cast("B"), self._head[self._place : self._place + len(buffer)]
        view[: len(head)] = head
        self._file.seek(self._start + max(0, self._place + len(head) - len(self._head)))
        count = len(head) + (self._file.readinto(view[len(head) :]) if len(head) < len(view) else 0)
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def closed_wav(path: Path, data: SoundData) -> Spliced:
    """A WAV file whose writer never came to say how long it is, with a header that says so."""
    with path.open("rb") as file:
        head = file.read(data.size_at)
    return Spliced(path, head + data.present.to_bytes(4, data.order), data.size_at + 4)


def ogg_problem(path: Path) -> str:
    """Why an Ogg file cannot be taken as one whole piece of music: its last page is cut, or belongs to another stream
    that was hung on, of which libsndfile hears nothing. Empty if it can, or is none."""
    with path.open("rb") as file:
        if (first := file.read(OGG_PAGE_HEADER))[:4] != b"OggS":
            return ""
        size = file.seek(0, 2)
        file.seek(max(0, size - OGG_TAIL))
        tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    if len(page) < OGG_PAGE_HEADER or not page.startswith(b"OggS"):
        return "truncated"
    segments = page[OGG_PAGE_HEADER : OGG_PAGE_HEADER + page[26]]
    # Not every writer marks its last page as the last one.
    if len(segments) < page[26] or len(page) < OGG_PAGE_HEADER + len(segments) + sum(segments):
        return "truncated"
    return "several streams one after another" if page[14:18] != first[14:18] else ""


def sound_data(path: Path) -> SoundData | None:
    """Where the samples are; None if it is no file of WAV, AIFF, CAF, W64 or AU, or has none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        magic = file.read(4)
        if magic in (b".snd", b"dns."):
            order: Order = "big" if magic == b".snd" else "little"
            offset, promised = (int.from_bytes(file.read(4), order) for _ in range(2))
            return SoundData(8, 0 if _unknown(promised) else promised, size - offset, order, False)
        return _chunk_data(file, magic, CONTAINERS[magic], size) if magic in CONTAINERS else None


def _chunk_data(file: BinaryIO, magic: bytes, form: Container, size: int) -> SoundData | None:
    long_size, place = 0, form.begin
    file.seek(4)
    whole = int.from_bytes(file.read(4), form.order)
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        head, body = file.read(form.head), place + form.head
        if len(head) < form.head:
            return None
        length = int.from_bytes(head[form.name :], form.order) - (form.head if magic == b"riff" else 0)
        if head[: form.name] == form.data:
            present = size - body - form.extra
            promised = long_size or (0 if _unknown(length) else length - form.extra)
            # An empty file may have other chunks after its samples; then it knows its own size.
            unclosed = length == 0 < present < 1 << 32 and form.size == 4 and (whole + 8 < size or _unknown(whole))
            return SoundData(body - form.size, promised, present, form.order, unclosed and not form.extra)
        if head[:4] == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], form.order)
        place = body - (-length // form.align) * form.align
        if place >= size or length < 0:
            return None
    return None


def _unknown(size: int) -> bool:
    return any(size in sizes for sizes in UNKNOWN_SIZES)
