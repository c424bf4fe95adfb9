"""Hashes of what is in sound files: each file is read once and known again by its path, size and times of change."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG

import numpy as np

from melody_cm.data.jobs import progress
from melody_cm.storage import hash_file, write_atomically

# Two changes within one tick of a file system's clock look like one: what changed this lately is read again next time.
RECENT_SECONDS = 2.0
FILES_BETWEEN_WRITES = 50_000
log = logging.getLogger(__name__)


def hash_contents(paths: Sequence[str], memory: Path) -> np.ndarray:
    """(n,) uint64, a hash of the content of each file and of nothing else; 0 where there is no file.

    Args:
        paths: the files, absolute.
        memory: the file that keeps hashes for the next time. It may be removed; if it cannot be written, a warning
            says so, and the next time takes as long.
    """
    places = {path: place for place, path in enumerate(dict.fromkeys(paths))}
    files = list(places)
    keys, settled = _look(files)
    hashes = _recall(memory, keys)
    unknown = np.flatnonzero((hashes == 0) & (keys != 0)).tolist()
    # In parts, so that whoever is interrupted among a million files does not begin again at the first.
    for start in range(0, len(unknown), FILES_BETWEEN_WRITES):
        part = unknown[start : start + FILES_BETWEEN_WRITES]
        hashes[part] = _hash_all([files[place] for place in part])
        _remember(memory, np.stack([keys[settled], hashes[settled]]))
    return hashes[[places[path] for path in paths]]


def _look(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """A key (n,) uint64 of each file as it is now, 0 if there is none; and (n,) bool, whether it can be trusted."""
    keys, changed = np.zeros(len(paths), np.uint64), np.zeros(len(paths), np.int64)
    now = time.time_ns()
    for place, path in enumerate(paths):
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        if S_ISREG(status.st_mode):
            described = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
            digest = hashlib.blake2b(described.encode(errors="surrogateescape"), digest_size=8).digest()
            keys[place] = int.from_bytes(digest, "little")
            changed[place] = max(status.st_mtime_ns, status.st_ctime_ns)
    return keys, (keys != 0) & (changed < now - int(RECENT_SECONDS * 1e9))


def _hash_all(paths: list[str]) -> list[int]:
    with ThreadPoolExecutor() as pool:
        return list(progress(pool.map(_hash, paths), f"hashing {len(paths)} sound files, once", len(paths)))


def _hash(path: str) -> int:
    try:
        return int(hash_file(Path(path)), 16)
    except OSError as error:
        log.warning("%s: cannot be read (%s)", path, error.strerror)
        return 0


def _recall(memory: Path, keys: np.ndarray) -> np.ndarray:
    """The hash that is remembered under each key, 0 where there is none."""
    try:
        known, hashes = np.load(memory)
        places = np.searchsorted(known, keys).clip(max=len(known) - 1)
        return np.where(known[places] == keys, hashes[places], np.uint64(0))
    except (OSError, ValueError, EOFError, IndexError):
        return np.zeros_like(keys)


def _remember(memory: Path, known: np.ndarray) -> None:
    """Keep (2, n) keys and hashes, by key."""
    try:
        write_atomically(memory, lambda aside: _save(aside, known[:, np.argsort(known[0])]))
    except OSError as error:
        log.warning("%s: cannot keep the hashes of sound files (%s); they will be made again", memory, error)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # Of a path, `np.save` changes the name.
        np.save(file, array)
