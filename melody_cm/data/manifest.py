"""Corpora of captioned music on disk: JSON-lines manifests and plain folders."""

import filecmp
import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from melody_cm.configuration import open_slot
from melody_cm.data.clips import SPLITS, Clip, RowReader, Split, load_row, refuse_conflicts
from melody_cm.data.file_hashes import hash_contents
from melody_cm.data.folders import scan_folder
from melody_cm.data.jobs import cache_folder
from melody_cm.data.manifest_clips import ManifestClips, open_clips, stamp_of
from melody_cm.data.texts import lines_of, printable, read_lines
from melody_cm.interfaces import Configurable
from melody_cm.storage import hash_data, hash_file, located, read_whole, write_atomically

log = logging.getLogger(__name__)
MANIFEST_NAME = "manifest.jsonl"

# A clip, what is wrong with a row, or None for a row that has no sound on purpose.
Entry = Clip | ValueError | None


class Corpus(Configurable, ABC):
    """A set of captioned clips. Constructing one is cheap; `clips` does the reading."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """The rows one by one, always in the same order; a bad one does not hide the others."""

    def clips(self) -> Sequence[Clip]:
        """All clips; a ValueError for rows that cannot be understood, an id of two clips, or a piece in two splits."""
        clips = []
        for entry in self.entries():
            if isinstance(entry, ValueError):
                raise entry
            clips += [entry] if entry else []
        refuse_conflicts(clips)
        return clips

    def splits(self) -> dict[Split, Sequence[Clip]]:
        """The clips of each split, in the order of `clips`."""
        clips = self.clips()
        return {split: [clip for clip in clips if clip.split == split] for split in SPLITS}

    def left_out(self) -> str:
        """What lies there and is no clip, with counts; empty if nothing does."""
        return ""

    def fingerprint(self) -> str:
        """A hash of what the clips say and of what is in their sound files.

        Names of folders and times do not count, so a copy of the corpus has the same.
        """
        clips = self.clips()
        described = [[clip.id, clip.split, clip.start, clip.duration, clip.captions] for clip in clips]
        return hash_data([described, self._hash_contents([str(clip.audio) for clip in clips])])

    def _hash_contents(self, files: Sequence[str]) -> str:
        memory = cache_folder() / "hashes" / f"{hash_data([str(self), str(Path.cwd())])}.npy"
        return hash_data(hash_contents(files, memory))

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.init_arguments.items())
        return f"{type(self).__name__}({arguments})"


class ManifestCorpus(Corpus):
    """The clips of a JSON-lines manifest; fields in docs/data.md. Rows whose audio is null are left out.

    All rows are checked when it is first read, and each becomes a `Clip` when it is asked for.

    Args:
        path: the manifest, or a folder that holds a manifest.jsonl.
        default_split: the split of rows that name none.
        allow_outside: take sound files that lie outside the manifest's folder.
    """

    def __init__(self, path: str, default_split: Split = "train", allow_outside: bool = False) -> None:
        self.path = Path(path) / MANIFEST_NAME if Path(path).is_dir() else Path(path)
        self.reader = RowReader(self.path.parent, default_split, allow_outside)
        self._opened: ManifestClips | None = None

    def clips(self) -> ManifestClips:
        if self._opened is None or stamp_of(self.path) != self._opened.stamp:
            self._opened = open_clips(self.path, self.reader)
        return self._opened

    def entries(self) -> Iterator[Entry]:
        return (_entry(self.reader.clip, line, where) for where, line in manifest_lines(self.path))

    def splits(self) -> dict[Split, Sequence[Clip]]:
        clips = self.clips()
        return {split: clips.of_split(split) for split in SPLITS}

    def fingerprint(self) -> str:
        contents = self._hash_contents(self.clips().audio_files())
        return hash_data([hash_file(self.path), self.reader.default_split, contents])


class FolderCorpus(Corpus):
    """All sound files below a folder.

    A .txt (a caption a line) or a .json (fields of a manifest's row) of the same stem describes a file. The split of
    a clip follows from its file's stem, 80/10/10, unless the .json names one.

    Args:
        path: the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.reader = RowReader(self.path)
        self._told = False

    def clips(self) -> Sequence[Clip]:
        left_out = "" if self._told else self.left_out()
        if left_out:
            log.warning("%s: left out: %s", self.path, left_out)
        self._told = True
        return super().clips()

    def entries(self) -> Iterator[Entry]:
        return (_entry(self.clip, audio) for audio in scan_folder(self.path).files)

    def left_out(self) -> str:
        left_out = scan_folder(self.path).left_out
        return ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))

    def clip(self, audio: Path) -> Clip:
        """The clip of one sound file and of the .json or .txt beside it."""
        name = audio.relative_to(self.path).as_posix()
        described, text = audio.with_suffix(".json"), audio.with_suffix(".txt")
        where, row = audio, {}
        if described.is_file():
            where = described
            with located(where):
                row = {name: value for name, value in load_row(read_whole(where)).items() if value is not None}
        elif text.is_file():
            captions = read_lines(text)
            row = {"caption": captions[0] if captions else None, "alt_captions": captions[1:]}
        row = {"id": printable(name), "caption": None, "split": hashed_split(audio.stem)} | row | {"audio": name}
        where = printable(str(where))
        with located(where):
            return self.reader.clip_of(row, where)


def open_corpus(path: str) -> Corpus:
    """The corpus at a path: a manifest, a folder with one, a plain folder of sound files, or a YAML file that describes
    a corpus as recipes do; else a FileNotFoundError or ValueError."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{path}: no such manifest or folder")
    if place.is_file() and place.suffix in (".yaml", ".yml"):
        return open_slot(place, Corpus)
    if place.is_file() and place.suffix != ".jsonl":
        raise ValueError(
            f"{path}: not a .jsonl manifest; give one, a folder of sound files, or a .yaml with the class_path and "
            "init_args of a corpus; `melody-cm data import` makes a manifest of other tables"
        )
    if place.is_file() or (place / MANIFEST_NAME).is_file():
        return ManifestCorpus(path)
    return FolderCorpus(path)


def manifest_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The non-empty lines of a manifest, each with its place ("file, row n", counted from 1)."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    with path.open("rb") as file:
        for number, line in enumerate(lines_of(file), start=1):
            if line.strip():
                yield f"{path}, row {number}", line


def write_manifest(path: Path, rows: Iterable[dict[str, Any]], force: bool) -> None:
    """Write rows as a manifest that appears whole; a ValueError if something else is there and not to be replaced by
    `force`."""

    def write(aside: Path) -> None:
        with aside.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if path.exists() and not force and not filecmp.cmp(aside, path, shallow=False):
            raise ValueError(f"{path}: exists and holds something else; give another --out, or replace it by --force")

    write_atomically(path, write)


def hashed_split(name: str) -> Split:
    """A split that depends on the name alone: 80 % train, 10 % valid, 10 % test."""
    tenth = int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little") % 10
    return "train" if tenth < 8 else "valid" if tenth == 8 else "test"


def _entry(read: Callable[..., Clip | None], *arguments: Any) -> Entry:
    try:
        return read(*arguments)
    except ValueError as error:
        return error
