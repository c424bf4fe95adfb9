"""One captioned clip, and the row of a table that describes it; docs/data.md lists the fields of a row."""

import difflib
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from melody_cm.data.texts import decode
from melody_cm.storage import located

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# What others call them.
OTHER_NAMES: dict[str, Split] = {
    **dict.fromkeys(("training",), "train"),
    **dict.fromkeys(("validation", "val", "dev"), "valid"),
    **dict.fromkeys(("testing", "eval", "evaluation", "heldout"), "test"),
}
log = logging.getLogger(__name__)

Text = Annotated[str, msgspec.Meta(min_length=1)]
OWN = ("id", "audio", "caption", "alt_captions")  # Fields that a clip keeps under other names.
DEEPEST = 500  # Brackets in brackets. Python's own limit is another in each version.
LONGEST = 1e9  # Seconds; also keeps infinity out.


class ManifestRow(msgspec.Struct, gc=False):
    """The fields of a row that have a meaning here; all others are only kept.

    `RowReader` makes `audio` absolute and fills in `split` and `piece`.
    """

    id: str | int | float
    audio: Text | None
    caption: str | None
    alt_captions: list[str | None] | None = None
    start: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)] | None = None
    duration: Annotated[float, msgspec.Meta(gt=0, le=LONGEST)] | None = None
    split: str | None = None
    piece: str | int | float | None = None
    midi: str | None = None


NEEDED = {
    "id": "a text or a number is needed",
    "audio": "a path relative to the manifest's folder, or null, is needed",
    "caption": "a text, or null, is needed",
    "alt_captions": "a list of texts is needed",
    "start": "a number of seconds from 0 is needed",
    "duration": "a number of seconds above 0 is needed; leave it out to take the whole file",
    "split": "a text is needed",
    "piece": "a text or a number is needed",
    "midi": "a path relative to the manifest's folder is needed",
}
_decode = msgspec.json.Decoder(ManifestRow).decode


@dataclass
class Clip:
    """One captioned piece of sound."""

    id: str  # Unique in its corpus.
    audio: Path
    start: float  # Seconds in the sound file.
    duration: float | None  # Seconds; None means up to its end.
    split: Split
    captions: list[str]  # The caption, then its alternatives; empty where nobody described the clip.
    piece: str  # All clips of one piece belong to one split.
    where: str  # The file and row that the clip comes from, for messages.
    fields: dict[str, Any] = field(default_factory=dict)  # Everything else its row says.


class RowReader:
    """Turns rows into clips; paths of sound files are relative to `folder`, and lie in it unless `allow_outside` is
    set."""

    def __init__(self, folder: Path, default_split: Split = "train", allow_outside: bool = False) -> None:
        self.folder, self.default_split, self.allow_outside = folder, default_split, allow_outside
        self.root = os.path.join(os.path.abspath(folder), "")

    def row(self, line: bytes) -> ManifestRow | None:
        """The row on a line, or None if its audio is null; a ValueError if the row is not what docs/data.md says."""
        _refuse_deep(line)
        try:
            row = _decode(line.decode())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            fields = load_row(line)  # Python's JSON also knows NaN, and its errors say more.
            row = None if fields.get("audio", "") is None else check_row(fields)
        return None if row is None or row.audio is None else self.complete(row)

    def complete(self, row: ManifestRow) -> ManifestRow:
        """Make the path of a row's sound file absolute, and fill in its split and piece."""
        # A link inside the folder was put there on purpose, so links are not resolved.
        path = os.path.normpath(self.root + row.audio if row.audio[0] != "/" else row.audio)
        if not (self.allow_outside or path.startswith(self.root)):
            hint = "move it below that folder, or set allow_outside: true"
            raise ValueError(f"{row.audio!r} lies outside {self.folder}; {hint}")
        row.audio = path
        row.split = row.split if row.split in SPLITS else read_split(row.split or self.default_split)
        row.piece = str(row.piece or path)
        return row

    def clip(self, line: bytes, where: str) -> Clip | None:
        """The clip on a line, or None if its audio is null; errors begin with `where`."""
        with located(where):
            fields = load_row(line)
            return None if fields.get("audio", "") is None else self.clip_of(fields, where)

    def clip_of(self, fields: dict[str, Any], where: str) -> Clip:
        """The clip of a row's fields, which name a sound file; a ValueError if they are not what docs/data.md says."""
        row = self.complete(check_row(fields))
        return Clip(
            id=str(row.id),
            audio=Path(row.audio),
            # Beside a MIDI file, `start` is a place in the MIDI, and the sound file is the finished clip.
            start=0.0 if row.midi else row.start or 0.0,
            duration=row.duration,
            split=row.split,
            captions=[caption for caption in (row.caption, *(row.alt_captions or ())) if caption],
            piece=row.piece,
            where=where,
            fields={name: value for name, value in fields.items() if name not in OWN},
        )


@cache
def read_split(name: str) -> Split:
    """The split of a name that the field uses, else a ValueError; another name than ours is logged, once each."""
    if name in SPLITS:
        return name
    if name not in OTHER_NAMES:
        raise ValueError(f"split is {name!r}; use one of {', '.join(SPLITS)} (or of {', '.join(OTHER_NAMES)})")
    log.warning("split %r is read as %r", name, OTHER_NAMES[name])
    return OTHER_NAMES[name]


def load_row(line: bytes) -> dict[str, Any]:
    """All fields of the JSON object on a line or in a file; a ValueError if it is none, or not UTF-8."""
    _refuse_deep(line)
    text = decode(line)
    try:
        row = json.loads(text)
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("not JSON (half a surrogate pair)") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"a row is a JSON object, not {type(row).__name__}")
    return row


def _refuse_deep(line: bytes) -> None:
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
    depths = accumulate((sign in b"[{") - (sign in b"]}") for sign in bare)
    if max(depths, default=0) > DEEPEST:
        raise ValueError(f"not JSON (more than {DEEPEST} brackets within one another)")


def check_row(fields: dict[str, Any]) -> ManifestRow:
    """The row with these fields; a ValueError says what is needed where one is missing or has another type."""
    try:
        row = msgspec.convert(fields, ManifestRow)
        row.split = row.split and read_split(row.split)
        return row
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"a number or a list in it is beyond all measure ({error})") from error
    except msgspec.ValidationError as error:
        (name,) = re.findall(r"`(?:\$\.)?(\w+)[^`]*`$", str(error))
        if name in fields:
            raise ValueError(f"{name} is {_short(fields[name])}; {NEEDED[name]}") from error
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"; is {near[0]!r} a misspelling of it?" if near else ""
        raise ValueError(f"field {name!r} is missing{hint}") from error


def _short(value: Any) -> str:
    """The beginning of how Python writes a value."""
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # Of numbers with thousands of digits, and lists in lists in lists.
        return f"a monstrous {type(value).__name__}"


class Conflicts:
    """Finds clips that do not fit to those seen before. It keeps ids, pieces and places, but no clips."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._pieces: dict[str, tuple[Split, str]] = {}
        self._parts: dict[str, list[tuple[float, float, Split, str]]] = {}
        self._leaks: set[str] = set()

    def of(self, clip: Clip) -> Iterator[tuple[str, str]]:
        """What is wrong with one more clip: the reason in a few words, and a message. A piece is told once."""
        other = self._ids.setdefault(clip.id, clip.where)
        if other is not clip.where:
            yield "id twice", f"{clip.where}: id {clip.id!r} is that of {other} too; ids must be unique"
        split, where = self._pieces.setdefault(clip.piece, (clip.split, clip.where))
        if split != clip.split and clip.piece not in self._leaks:
            self._leaks.add(clip.piece)
            yield (
                "piece in two splits",
                f"{clip.where}: piece {clip.piece!r} is in {clip.split} here and in {split} at {where}; "
                "a piece must stay in one split",
            )
        elif split == clip.split:
            yield from self._heard_elsewhere(clip)

    def _heard_elsewhere(self, clip: Clip) -> Iterator[tuple[str, str]]:
        """The same sound under another piece's name in another split."""
        audio, end = str(clip.audio), clip.start + (clip.duration or math.inf)
        parts = self._parts.setdefault(audio, [])
        for other_start, other_end, split, where in parts:
            if split != clip.split and clip.start < other_end and other_start < end and audio not in self._leaks:
                self._leaks.add(audio)
                message = f"{clip.where}: sound of {audio} is in {clip.split} here and in {split} at {where}; "
                yield "sound in two splits", message + "give both the same piece and split"
        if (place := (clip.start, end, clip.split)) not in [part[:3] for part in parts]:
            parts.append((*place, clip.where))


def refuse_conflicts(clips: Iterable[Clip]) -> None:
    """ValueError if two clips share an id, or two splits a piece or a sound."""
    conflicts = Conflicts()
    for clip in clips:
        for _, message in conflicts.of(clip):
            raise ValueError(message)
