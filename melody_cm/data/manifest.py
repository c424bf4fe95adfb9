"""Corpora of captioned music on disk: JSON-lines manifests and plain folders."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melody_cm.data.audio_files import AUDIO_SUFFIXES
from melody_cm.data.clips import Clip, Split, load_row, make_clip, parse_row, refuse_leaks
from melody_cm.interfaces import Configurable
from melody_cm.storage import hash_data, hash_file

MANIFEST_NAME = "manifest.jsonl"


class Corpus(Configurable, ABC):
    """A set of captioned clips. Constructing one is cheap; `clips` does the reading."""

    @abstractmethod
    def clips(self) -> list[Clip]:
        """All clips, always in the same order.

        Raises:
            ValueError: rows that cannot be understood, or a piece in two splits.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes when the content does."""

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.init_arguments.items())
        return f"{type(self).__name__}({arguments})"


class ManifestCorpus(Corpus):
    """The clips of a JSON-lines manifest; fields in docs/data.md. Rows whose audio is null are left out.

    Args:
        path: the manifest, or a folder that holds a manifest.jsonl.
        default_split: the split of rows that name none.
    """

    def __init__(self, path: str, default_split: Split = "train") -> None:
        self.path = Path(path) / MANIFEST_NAME if Path(path).is_dir() else Path(path)
        self.default_split = default_split

    def clips(self) -> list[Clip]:
        clips = []
        for where, line in manifest_lines(self.path):
            clip = parse_row(line, self.path.parent, where, self.default_split)
            if clip is not None:
                clips.append(clip)
        refuse_leaks(clips)
        return clips

    def fingerprint(self) -> str:
        return hash_data([hash_file(self.path), self.default_split, _sizes(self.clips())])


class FolderCorpus(Corpus):
    """All sound files below a folder, described by a .txt (a caption a line) or a .json (fields of a manifest's row)
    of the same stem. A clip's split is a function of its file's stem, 80/10/10, unless the .json names one.

    Args:
        path: the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def clips(self) -> list[Clip]:
        clips = [self.clip(audio) for audio in folder_files(self.path)]
        refuse_leaks(clips)
        return clips

    def clip(self, audio: Path) -> Clip:
        """The clip of one sound file and of the .json or .txt beside it."""
        name = audio.relative_to(self.path).as_posix()
        described, text = audio.with_suffix(".json"), audio.with_suffix(".txt")
        row: dict[str, Any] = {}
        where = str(audio)
        if described.is_file():
            where = str(described)
            row = {key: value for key, value in load_row(_read_text(described), where).items() if value is not None}
        elif text.is_file():
            captions = [line.strip() for line in _read_text(text).splitlines() if line.strip()]
            row = {"caption": captions[0] if captions else None, "alt_captions": captions[1:]}
        row = {"id": name, "caption": None, "split": hashed_split(audio.stem)} | row | {"audio": name}
        return make_clip(row, self.path, where, "train")

    def fingerprint(self) -> str:
        clips = self.clips()
        described = [[clip.id, clip.split, clip.start, clip.duration, clip.captions] for clip in clips]
        return hash_data([described, _sizes(clips)])


def open_corpus(path: str) -> Corpus:
    """The corpus at a path: a manifest, a folder with one, or a plain folder of sound files.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it is a file but no .jsonl manifest.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{path}: no such manifest or folder")
    if place.is_file() and place.suffix != ".jsonl":
        raise ValueError(f"{path}: not a .jsonl manifest; give one, or a folder of sound files")
    if place.is_file() or (place / MANIFEST_NAME).is_file():
        return ManifestCorpus(path)
    return FolderCorpus(path)


def manifest_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The non-empty lines of a manifest, each with its place ("file, row n", counted from 1)."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, row {number}", line


def folder_files(path: Path) -> list[Path]:
    """The sound files below a folder, sorted; hidden ones left out."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    files = (file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
    return sorted(file for file in files if not file.name.startswith("."))


def hashed_split(name: str) -> Split:
    """A split that depends on the name alone: 80 % train, 10 % valid, 10 % test."""
    tenth = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") % 10
    return "train" if tenth < 8 else "valid" if tenth == 8 else "test"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _sizes(clips: list[Clip]) -> list[str]:
    paths = sorted({clip.audio for clip in clips})
    return [f"{path.name} {path.stat().st_size if path.is_file() else None}" for path in paths]
