"""The clips of a manifest, each read when it is asked for: only 13 bytes a clip stay in memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.recfunctions import repack_fields

from melody_cm.data.clips import SPLITS, Clip, ManifestRow, RowReader, Split, refuse_conflicts
from melody_cm.data.texts import lines_of

# Of each row: the byte at which it begins, its line counted from 1, its split; and hashes that tell conflicts.
PLACE = [("offset", np.int64), ("number", np.int32), ("split", np.uint8)]
CHECKED = np.dtype([*PLACE, ("id", np.int64), ("piece", np.int64), ("audio", np.int64)])
CODES = {split: code for code, split in enumerate(SPLITS)}


Stamp = tuple[int, int]  # Size in bytes and time of change in ns, by which a changed file is known.


@dataclass(eq=False, repr=False)
class ManifestClips(Sequence[Clip]):
    """A read-only sequence of clips.

    It holds an array and no open file, so worker processes share it without copying, and it can be pickled.
    """

    path: Path
    reader: RowReader  # How its rows become clips.
    table: np.ndarray  # (n,) where the rows are.
    stamp: Stamp  # Of the manifest when they were there.

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Clip]:
        return (self.reader.clip(line, where) for where, line in self.lines())

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return self._part(self.table[item])
        (clip,) = self._part(self.table[[item]])
        return clip

    def of_split(self, split: Split) -> "ManifestClips":
        return self._part(self.table[self.table["split"] == CODES[split]])

    def audio_files(self) -> list[str]:
        """The sound file of each, in a tenth of the time that the clips would take."""
        return [self.reader.row(line).audio for _, line in self.lines()]

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Each row with its place, for messages; a ValueError if the manifest has changed since it was opened."""
        with self.path.open("rb") as file:
            if stamp_of(file.fileno()) != self.stamp:
                raise ValueError(f"{self.path}: changed while it was in use; start again")
            for offset, number in zip(self.table["offset"].tolist(), self.table["number"].tolist(), strict=True):
                file.seek(offset)
                yield f"{self.path}, row {number}", file.readline()

    def _part(self, table: np.ndarray) -> "ManifestClips":
        return ManifestClips(self.path, self.reader, table, self.stamp)


def open_clips(path: Path, reader: RowReader) -> ManifestClips:
    """Read a manifest once and check all of it; errors as of `Corpus.clips`, or a FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    with path.open("rb") as file:
        stamp = stamp_of(file.fileno())
        checked = np.fromiter(_places(path, file, reader), CHECKED)
    clips = ManifestClips(path, reader, checked, stamp)
    _refuse_conflicts(clips)
    return ManifestClips(path, reader, repack_fields(checked[[name for name, _ in PLACE]]), stamp)


def stamp_of(file: int | Path) -> Stamp:
    """Of an open file's descriptor, or of a path."""
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns


def _places(path: Path, file: BinaryIO, reader: RowReader) -> Iterator[tuple[int, int, int, int, int, int]]:
    offset = 0
    for number, line in enumerate(lines_of(file), start=1):
        row: ManifestRow | None = None
        if line.strip():
            try:  # Not `located`, which costs as much as the row.
                row = reader.row(line)
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: {error}") from error
        if row is not None:
            yield offset, number, CODES[row.split], hash(str(row.id)), hash(row.piece), hash(row.audio)
        offset += len(line)


def _refuse_conflicts(clips: ManifestClips) -> None:
    """Equal texts have equal hashes: only rows that share an id, or a piece or a file across splits, are read again."""
    splits, suspects = clips.table["split"], np.zeros(len(clips), bool)
    for column in ("id", "piece", "audio"):
        _, firsts, inverse = np.unique(clips.table[column], return_index=True, return_inverse=True)
        first = firsts[inverse]
        unlike = first != np.arange(len(first)) if column == "id" else splits != splits[first]
        shared = np.zeros(len(firsts), bool)
        shared[inverse[unlike]] = True
        suspects |= shared[inverse]
    refuse_conflicts(clips._part(clips.table[suspects]))
