"""One captioned clip and the rows that describe clips, checked field by field; the fields are in docs/data.md."""

import difflib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass
class Clip:
    """One captioned piece of sound.

    Attributes:
        id: unique in its corpus.
        audio: the sound file.
        start, duration: seconds in that file; None means up to its end.
        split: train, valid or test.
        captions: the caption, then its alternatives; empty where nobody described the clip.
        piece: what must not be split: all clips of one piece belong to one split.
        where: the file and row that the clip comes from, for messages.
        fields: everything else its row says.
    """

    id: str
    audio: Path
    start: float
    duration: float | None
    split: Split
    captions: list[str]
    piece: str
    where: str
    fields: dict[str, Any] = field(default_factory=dict)


def parse_row(line: str, folder: Path, where: str, default_split: Split, allow_outside: bool = False) -> Clip | None:
    """The clip of a manifest's line, or None if its audio is null.

    Raises:
        ValueError: the row is not what docs/data.md says; the message begins with `where`.
    """
    row = load_row(line, where)
    _need(row, "audio", where)
    return None if row["audio"] is None else make_clip(row, folder, where, default_split, allow_outside)


def load_row(line: str, where: str) -> dict[str, Any]:
    """The JSON object on a line; bytes that are not UTF-8 are expected as `surrogateescape` leaves them."""
    try:
        line.encode()
        row = json.loads(line)
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (character {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row is a JSON object, not {type(row).__name__}")
    return row


def make_clip(row: dict[str, Any], folder: Path, where: str, default_split: Split, allow_outside: bool = False) -> Clip:
    """The clip of a row that has audio."""
    for name in ("id", "caption"):
        _need(row, name, where)
    start, duration = _seconds(row, "start", where), _seconds(row, "duration", where)
    if duration == 0:
        raise ValueError(f"{where}: duration is 0; give the clip's length in seconds, or leave the field out")
    audio = path_in_folder(folder, row["audio"], where, allow_outside)
    # Beside a MIDI file, `start` is a place in the MIDI, and the sound file is the finished clip.
    return Clip(
        id=str(row["id"]),
        audio=audio,
        start=0.0 if row.get("midi") else start or 0.0,
        duration=duration,
        split=_split(row, where, default_split),
        captions=_captions(row, where),
        piece=str(row.get("piece") or audio),
        where=where,
        fields={name: value for name, value in row.items() if name not in ("id", "audio", "caption", "alt_captions")},
    )


def path_in_folder(folder: Path, path: Any, where: str, allow_outside: bool) -> Path:
    """The absolute path of a file that a row names.

    Raises:
        ValueError: it is no text, or leads out of the folder and may not.
    """
    if not isinstance(path, str) or not path:
        raise ValueError(f"{where}: audio is {path!r}; a path relative to {folder} is needed")
    # Not resolved: a link inside the folder was put there on purpose.
    root = Path(os.path.abspath(folder))
    target = Path(os.path.normpath(root / path))
    if root not in target.parents and not allow_outside:
        raise ValueError(
            f"{where}: '{path}' lies outside {folder}; move it below that folder, or set allow_outside: true"
        )
    return target


class SeenClips:
    """The clips of a corpus so far, as far as they decide whether another one fits to them.

    Keeps ids, pieces and places, no clips, so that it can see millions of them.
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._pieces: dict[str, tuple[Split, str]] = {}
        self._leaks: set[str] = set()

    def shared_id(self, clip: Clip) -> str | None:
        """What is wrong if another clip has this one's id."""
        other = self._ids.get(clip.id)
        if other is None:
            self._ids[clip.id] = clip.where
            return None
        return f"{clip.where}: id '{clip.id}' is that of {other} too; ids must be unique"

    def leak(self, clip: Clip) -> str | None:
        """What is wrong if another split holds this clip's piece; said once for each piece."""
        split, where = self._pieces.setdefault(clip.piece, (clip.split, clip.where))
        if split == clip.split or clip.piece in self._leaks:
            return None
        self._leaks.add(clip.piece)
        return (
            f"{clip.where}: piece '{clip.piece}' is in {clip.split} here and in {split} at {where}; "
            "a piece must stay in one split"
        )


def refuse_conflicts(clips: Iterable[Clip]) -> None:
    """ValueError if two clips share an id, or two splits a piece."""
    seen = SeenClips()
    for clip in clips:
        message = seen.shared_id(clip) or seen.leak(clip)
        if message:
            raise ValueError(message)


def _need(row: dict[str, Any], name: str, where: str) -> None:
    if name not in row:
        near = difflib.get_close_matches(name, row, n=1)
        hint = f"; is '{near[0]}' a misspelling of it?" if near else ""
        raise ValueError(f"{where}: field '{name}' is missing{hint}")


def _seconds(row: dict[str, Any], name: str, where: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):
        raise ValueError(f"{where}: {name} is {value!r}; a number of seconds from 0 is needed")
    return float(value)


def _split(row: dict[str, Any], where: str, default_split: Split) -> Split:
    split = row.get("split") or default_split
    if split not in SPLITS:
        raise ValueError(f"{where}: split is {split!r}; use one of {', '.join(SPLITS)}")
    return split


def _captions(row: dict[str, Any], where: str) -> list[str]:
    alternatives = row.get("alt_captions") or []
    if not isinstance(alternatives, list):
        raise ValueError(f"{where}: alt_captions is {alternatives!r}; a list of texts is needed")
    captions = [caption for caption in [row["caption"], *alternatives] if caption]
    for caption in captions:
        if not isinstance(caption, str):
            raise ValueError(f"{where}: a caption is {caption!r}; a text is needed")
    return captions
