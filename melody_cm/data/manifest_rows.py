"""The lines of a JSON-lines manifest, each a clip; checked in bulk without making a `Clip` of every one."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from melody_cm.data.clips import Clip, Split, parse_row


class PlainRow(msgspec.Struct, gc=False):
    """A row as nearly all are: what decodes as this, `parse_row` accepts too, and needs ten times as long for."""

    id: str | int
    audio: Annotated[str, msgspec.Meta(min_length=1)] | None
    caption: str | None
    alt_captions: list[str] | None = None
    start: Annotated[float, msgspec.Meta(ge=0)] | None = None
    duration: Annotated[float, msgspec.Meta(gt=0)] | None = None
    split: Literal["train", "valid", "test"] | None = None
    piece: str | int | None = None


_decode = msgspec.json.Decoder(PlainRow).decode


# Id, split, piece and sound file: what tells whether rows fit together. A plain tuple, since a million are made.
RowFacts = tuple[str, Split, str, str]


@dataclass(frozen=True)
class ManifestRows:
    """How the lines of one manifest become clips.

    Attributes:
        path: the manifest.
        default_split, allow_outside: as of `ManifestCorpus`.
    """

    path: Path
    default_split: Split
    allow_outside: bool

    def clip(self, number: int, line: bytes) -> Clip | None:
        """The clip of line `number` (from 1), or None if the line is empty or its audio null.

        Raises:
            ValueError: the row is not what docs/data.md says; the message begins with file and number.
        """
        if not line.strip():
            return None
        where = f"{self.path}, row {number}"
        text = line.decode(errors="surrogateescape")
        return parse_row(text, self.path.parent, where, self.default_split, self.allow_outside)

    def facts(self, number: int, line: bytes) -> RowFacts | None:
        """What `clip` would say of the same line, with the same errors."""
        try:
            row = _decode(line)
            if not line.isascii():
                line.decode()  # msgspec does not look at the encoding of fields that it skips.
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._facts_of_clip(number, line)
        audio = row.audio
        if audio is None:
            return None
        if audio[0] in self._odd_starts or audio[-1] == "/" or "/." in audio or "//" in audio:
            return self._facts_of_clip(number, line)
        if audio[0] != "/":
            audio = self._root + audio
        return str(row.id), row.split or self.default_split, str(row.piece or audio), audio

    def _facts_of_clip(self, number: int, line: bytes) -> RowFacts | None:
        clip = self.clip(number, line)
        return None if clip is None else (clip.id, clip.split, clip.piece, str(clip.audio))

    @cached_property
    def _root(self) -> str:
        return os.path.join(os.path.abspath(self.path.parent), "")

    @cached_property
    def _odd_starts(self) -> str:
        return "." if self.allow_outside else "./"
