"""Hashes of what is in sound files: each file is read once and known again by its path, size and times of change."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

import numpy as np

from melody_cm.data.jobs import progress
from melody_cm.storage import hash_file, write_atomically

# Two changes within one tick of a file system's clock look like one: what changed this lately is read again next time.
RECENT_SECONDS = 2.0
log = logging.getLogger(__name__)


class Key(NamedTuple):
    """By which a file is known again: a hash of path, size and times of change; and whether it may be remembered."""

    value: int
    settled: bool


def hash_contents(paths: Sequence[str], memory: Path) -> list[int]:
    """A hash of the content of each file (an absolute path) and of nothing else; 0 where there is no file.

    The file `memory` keeps hashes for the next time. It may be removed; if it cannot be written, a warning says so, and
    the next time takes as long.
    """
    keys = {path: key for path in dict.fromkeys(paths) if (key := _key(path))}
    known = _recall(memory)
    unknown = [path for path, key in keys.items() if key.value not in known]
    try:
        with ThreadPoolExecutor() as pool:
            title = f"hashing {len(unknown)} sound files, once"
            for path, found in zip(unknown, progress(pool.map(_hash, unknown), title, len(unknown)), strict=True):
                known[keys[path].value] = found
    finally:  # Whoever is interrupted among a million files does not begin again at the first.
        if unknown:
            settled = [key.value for key in keys.values() if key.settled]
            _remember(memory, {key: known[key] for key in settled if known.get(key)})
    return [known[keys[path].value] if path in keys else 0 for path in paths]


def _key(path: str) -> Key | None:
    """None if there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    described = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    digest = hashlib.blake2b(described.encode(errors="surrogateescape"), digest_size=8).digest()
    settled = max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - int(RECENT_SECONDS * 1e9)
    return Key(int.from_bytes(digest, "little"), settled) if S_ISREG(status.st_mode) else None


def _hash(path: str) -> int:
    try:
        return int(hash_file(Path(path)), 16)
    except OSError as error:
        log.warning("%s: cannot be read (%s)", path, error.strerror)
        return 0


def _recall(memory: Path) -> dict[int, int]:
    try:
        return dict(zip(*np.load(memory).tolist(), strict=True))
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def _remember(memory: Path, known: dict[int, int]) -> None:
    def write(aside: Path) -> None:
        with aside.open("wb") as file:  # Of a path, `np.save` changes the name.
            np.save(file, np.array([list(known), list(known.values())], np.uint64))

    try:
        write_atomically(memory, write)
    except OSError as error:
        log.warning("%s: cannot keep the hashes of sound files (%s); they will be made again", memory, error)
