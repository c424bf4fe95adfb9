"""What the readers of other collections' formats have in common: rows become clips, sound that is not there is left
out and counted."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melody_cm.data.clips import Clip, make_clip, refuse_conflicts
from melody_cm.data.formats.tables import Row
from melody_cm.data.manifest import Corpus

NAMED = 3
log = logging.getLogger(__name__)


class DescribedCorpus(Corpus):
    """Clips that tables in some format describe, and whose sound files lie in a folder.

    A subclass says where the rows are and what each means in the fields of a manifest (docs/data.md); what those may be
    is then checked as for a manifest. Rows whose sound file is not there are left out.

    Args:
        tables: the files that describe the clips.
        audio_folder: what the paths of sound files are relative to.
        allow_outside: let paths lead out of that folder.

    Attributes:
        missing: "file, row n: sound file" for each row left out when the clips were read last.
    """

    def __init__(self, tables: list[Path], audio_folder: Path, allow_outside: bool = False) -> None:
        self.tables, self.audio_folder, self.allow_outside = tables, audio_folder, allow_outside
        self.missing: list[str] = []
        self._told: list[str] = []

    @abstractmethod
    def rows(self) -> Iterator[Row | ValueError]:
        """The rows of all tables in order; an error in the place of one that cannot be taken apart.

        Raises:
            FileNotFoundError, ValueError: a table is not there, or not of this format.
        """

    @abstractmethod
    def fields(self, row: Row) -> dict[str, Any] | None:
        """A row in the fields of a manifest; None if it is not wanted.

        Raises:
            ValueError: the row cannot be understood; the message begins with its place.
        """

    def entries(self) -> Iterator[Clip | ValueError | None]:
        """Row by row the clip, what is wrong with it, or None if it is meant to have no sound."""
        self.missing = []
        for row in self.rows():
            if isinstance(row, ValueError):
                yield row
                continue
            try:
                yield from self._entry(row)
            except ValueError as error:
                yield error

    def clips(self) -> list[Clip]:
        clips = []
        for entry in self.entries():
            if isinstance(entry, ValueError):
                raise entry
            if entry is not None:
                clips.append(entry)
        self._tell_missing(len(clips))
        refuse_conflicts(clips)
        return clips

    def _entry(self, row: Row) -> Iterator[Clip | None]:
        fields = self.fields(row)
        if fields is None:
            return
        if fields["audio"] is None:
            yield None
            return
        clip = make_clip(fields, self.audio_folder, row.where, "train", self.allow_outside)
        if clip.audio.is_file():
            yield clip
        else:
            self.missing.append(f"{row.where}: {clip.audio}")

    def _tell_missing(self, found: int) -> None:
        """An error if nothing is there; else one line in the log, once."""
        if not self.missing or self.missing == self._told:
            return
        count = len(self.missing)
        if not found:
            raise FileNotFoundError(
                f"{self.audio_folder}: holds none of the {count} sound files that {self.tables[0]} names; "
                f"the first would be {self.missing[0]}"
            )
        self._told = self.missing
        first = "; ".join(self.missing[:NAMED])
        log.warning(
            "left out %d of %d clips without sound file, first %s; `melody-cm data check` lists all",
            count,
            count + found,
            first,
        )
