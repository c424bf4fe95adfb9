"""Where the rows of a manifest lie in its file: the 13 bytes a clip that stay in memory."""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from melody_cm.data.clips import SPLITS, Clip, refuse_conflicts
from melody_cm.data.manifest_rows import ManifestRows


class Stamp(NamedTuple):
    """By which a changed file is known: size in bytes, time of change in ns."""

    size: int
    changed: int


@dataclass(frozen=True)
class RowIndex:
    """The rows of a manifest that have audio, in order.

    Attributes:
        offsets: (n,) int64, the byte at which each begins.
        numbers: (n,) int32, its line, counted from 1.
        splits: (n,) uint8, an index in SPLITS.
        stamp: of the file when it was read.
    """

    offsets: np.ndarray
    numbers: np.ndarray
    splits: np.ndarray
    stamp: Stamp


def index_rows(rows: ManifestRows) -> RowIndex:
    """Read a manifest once and check it whole.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: a row that cannot be understood, an id of two rows, or a piece in two splits.
    """
    if not rows.path.is_file():
        raise FileNotFoundError(f"{rows.path}: no such manifest")
    offsets, numbers, splits, ids, pieces = array("q"), array("i"), array("B"), array("q"), array("q")
    codes = {split: code for code, split in enumerate(SPLITS)}
    offset = 0
    with rows.path.open("rb") as file:
        stamp = stamp_of(file.fileno())
        for number, line in enumerate(file, start=1):
            facts = rows.facts(number, line)
            if facts is not None:
                identity, split, piece, _ = facts
                offsets.append(offset)
                numbers.append(number)
                splits.append(codes[split])
                ids.append(hash(identity))
                pieces.append(hash(piece))
            offset += len(line)
    index = RowIndex(*(np.array(column) for column in (offsets, numbers, splits)), stamp)
    _refuse_conflicts(rows, index, np.array(ids), np.array(pieces))
    return index


def read_lines(rows: ManifestRows, index: RowIndex, chosen: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Number and text of the rows at some places of the index.

    Raises:
        ValueError: the manifest has changed since it was indexed.
    """
    with rows.path.open("rb") as file:
        if stamp_of(file.fileno()) != index.stamp:
            raise ValueError(f"{rows.path}: changed while it was in use; start again")
        for offset, number in zip(index.offsets[chosen].tolist(), index.numbers[chosen].tolist(), strict=True):
            file.seek(offset)
            yield number, file.readline()


def read_clips(rows: ManifestRows, index: RowIndex, chosen: np.ndarray) -> Iterator[Clip]:
    """The clips at some places of the index."""
    clips = (rows.clip(number, line) for number, line in read_lines(rows, index, chosen))
    return (clip for clip in clips if clip is not None)


def stamp_of(file: int | Path) -> Stamp:
    """Of an open file's descriptor, or of a path."""
    status = os.stat(file)
    return Stamp(status.st_size, status.st_mtime_ns)


def _refuse_conflicts(rows: ManifestRows, index: RowIndex, ids: np.ndarray, pieces: np.ndarray) -> None:
    same_id, same_piece = _first_equal(ids), _first_equal(pieces)
    shared = same_id != np.arange(len(ids))
    leaking = index.splits != index.splits[same_piece]
    for first, suspects in ((same_id, shared), (same_piece, leaking)):
        for place in np.flatnonzero(suspects).tolist():
            refuse_conflicts(read_clips(rows, index, np.array([first[place], place])))


def _first_equal(hashes: np.ndarray) -> np.ndarray:
    """For each place the first place with the same value. Equal texts have equal hashes; what only seems equal is
    read before it is called so."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse]
