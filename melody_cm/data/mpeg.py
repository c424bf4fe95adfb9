"""MP3 files as libmpg123 wants them: with a first frame that says how many follow, and without its chatter."""

import ctypes
import mmap
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# kbit/s of layer III by the header's index: MPEG 1, then MPEG 2 and 2.5.
BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by the version's bits.
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")  # Of layer III.
FIRST_WITHIN = 1 << 17  # Bytes after the tags that may be anything else.
TRAILING = 1 << 10  # Bytes of tags behind the music, at which a promised length need not be doubted.


class Frame(NamedTuple):
    """A frame's header: its length in bytes, 0 if it is none; what all frames of a stream share; a place in it."""

    length: int
    kind: tuple[int, int]
    info_at: int  # Where Xing and Info stand: behind the side information.


class Counted(NamedTuple):
    """A stream of frames whose number was counted: `head` is to be read in place of all before byte `start`."""

    head: bytes
    start: int


@lru_cache(maxsize=1 << 14)
def header(data: bytes) -> Frame:
    """The frame whose first four bytes these are."""
    if not SYNC.match(data) or len(data) < 4:
        return Frame(0, (0, 0), 0)
    version, index, place = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3
    if not 0 < index < 15 or place == 3:  # Index 0 is a free bitrate, which says no length.
        return Frame(0, (0, 0), 0)
    one, mono = version == 3, data[3] >> 6 == 3
    length = (144 if one else 72) * 1000 * BITRATES[not one][index] // RATES[version][place] + (data[2] >> 1 & 1)
    side = (17 if mono else 32) if one else (9 if mono else 17)
    return Frame(length, (version, place), 4 + side + 2 * (not data[1] & 1))


def counted(path: Path) -> Counted | None:
    """The frames of an MP3 file that does not say how many it has; None of a file that does, or is no MP3."""
    status = path.stat()
    return _counted(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 14)
def _counted(path: str, size: int, _: int) -> Counted | None:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = first_frame(data)
        if place is None:
            return None
        first = header(data[place : place + 4])
        promised = _promised_end(data, place, first)
        if promised and promised + TRAILING >= size:
            return None
        if promised is not None:
            place += first.length
        return Counted(_info_frame(data[place : place + 4], _count(data, place, first.kind)), place)


def has_frames(path: Path) -> bool:
    """Whether there is MP3 in a file, however it begins."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return first_frame(data) is not None


def magic_behind_tags(path: Path) -> bytes:
    """The four bytes with which a file begins, behind its ID3 tags."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = _behind_tags(data)
        return data[place : place + 4]


def _behind_tags(data: mmap.mmap | bytes) -> int:
    place = 0
    while data[place : place + 3] == b"ID3":
        sizes = data[place + 6 : place + 10]
        place += 10 + sum((byte & 127) << shift for byte, shift in zip(sizes, (21, 14, 7, 0), strict=False))
    return place


def first_frame(data: mmap.mmap | bytes) -> int | None:
    """Where the first frame begins that another one follows, tags left out; None where there is none."""
    place = _behind_tags(data)
    for found in SYNC.finditer(data[place : place + FIRST_WITHIN]):
        at = place + found.start()
        frame = header(data[at : at + 4])
        behind = at + frame.length
        if frame.length and (behind == len(data) or header(data[behind : behind + 4]).kind == frame.kind):
            return at
    return None


def _promised_end(data: mmap.mmap, place: int, frame: Frame) -> int | None:
    """The byte at which the stream ends by its first frame, 0 if that leaves it open; None if it is plain music."""
    at = place + frame.info_at
    if data[at : at + 4] in (b"Xing", b"Info"):
        flags = data[at + 7]
        size = int.from_bytes(data[at + 12 : at + 16], "big") if flags & 2 else len(data)
        return place + size if flags & 1 else 0
    return 0 if data[place + 36 : place + 40] == b"VBRI" else None


def _count(data: mmap.mmap, place: int, kind: tuple[int, int]) -> int:
    frames = 0
    while found := header(data[place : place + 4]):
        if not found.length or found.kind != kind:
            again = next((at for at in _syncs(data, place + 1) if _goes_on(data, at, kind)), None)
            if again is None:
                break
            place = again
            continue
        if place + found.length > len(data):
            break
        frames, place = frames + 1, place + found.length
    return frames


def _syncs(data: mmap.mmap, place: int) -> Iterator[int]:
    while (place := data.find(b"\xff", place, place + FIRST_WITHIN)) >= 0:
        yield place
        place += 1


def _goes_on(data: mmap.mmap, at: int, kind: tuple[int, int]) -> bool:
    frame = header(data[at : at + 4])
    behind = at + frame.length
    return frame.length > 0 and frame.kind == kind == header(data[behind : behind + 4]).kind


def _info_frame(head: bytes, frames: int) -> bytes:
    """A frame without music that says how many follow."""
    # 128 kbit/s (64 below MPEG 1), without a checksum: at least 96 bytes.
    plain = bytes([head[0], head[1] | 1, (0x90 if head[1] & 8 else 0x80) | head[2] & 0x0C, head[3]])
    frame = header(plain)
    content = plain + bytes(frame.info_at - 4) + b"Info" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return content.ljust(frame.length, b"\0")


_LOCK = threading.Lock()
_QUIET = {"users": 0, "before": None, "nothing": None}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what C libraries print of damaged files; what Python prints is not touched."""
    pointer = _c_stderr()
    with _LOCK:
        _QUIET["users"] += 1
        if pointer is not None and _QUIET["users"] == 1:
            _QUIET["before"], pointer.value = pointer.value, _nothing()
    try:
        yield
    finally:
        with _LOCK:
            _QUIET["users"] -= 1
            if pointer is not None and not _QUIET["users"]:
                pointer.value = _QUIET["before"]


@lru_cache(maxsize=1)
def _c_stderr() -> ctypes.c_void_p | None:
    with suppress(ValueError, OSError, TypeError):
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), "__stderrp" if sys.platform == "darwin" else "stderr")
    return None


@lru_cache(maxsize=1)
def _nothing() -> int:
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    return library.fopen(os.devnull.encode(), b"w")
