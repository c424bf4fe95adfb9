"""Manifests of AudioCraft: a JSON object a line for each sound file, music described by a .json beside it."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melody_cm.data.clips import load_row, path_in_folder
from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.split_files import split_files
from melody_cm.data.formats.tables import Row
from melody_cm.data.formats.tags import comma_list, tag_captions

NAMES = ("data.jsonl", "data.jsonl.gz")
TAGS = ("genre", "moods", "instrument", "keywords")


class AudioCraftCorpus(DescribedCorpus):
    """The sound files that AudioCraft's data.jsonl or data.jsonl.gz lists, one such file for each split.

    A caption is the `description` in the .json of the same stem (or at `info_path`), else its genre, moods, instrument
    and keywords. All its fields are kept with the clip, and so are `amplitude` and `weight`; weight has no effect.

    Args:
        train, valid, test: the manifest of each split, or the folder that it lies in; at least one.
        audio_folder: what paths are relative to, the folder of the first manifest if None.
        allow_outside: take paths that lead out of that folder, absolute ones too.
    """

    def __init__(
        self,
        train: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        audio_folder: str | None = None,
        allow_outside: bool = False,
    ) -> None:
        self.files = [(split, _manifest(path)) for split, path in split_files(train, valid, test)]
        tables = [path for _, path in self.files]
        super().__init__(tables, Path(audio_folder or tables[0].parent), allow_outside)

    def rows(self) -> Iterator[Row | ValueError]:
        for split, path in self.files:
            for where, line in _lines(path):
                try:
                    yield Row(where, load_row(line, where) | {"split": split})
                except ValueError as error:
                    yield error

    def fields(self, row: Row) -> dict[str, Any]:
        path = row.cells.get("path")
        if ".zip:" in str(path):
            raise ValueError(f"{row.where}: {path} lies in an archive; unpack it and list its files")
        described = self._described(row)
        listed = {name: value for name, value in row.cells.items() if name not in ("path", "duration")}
        caption = described.get("description")
        captions = {"caption": caption} if caption else tag_captions(comma_list(_tags(described)))
        return described | listed | captions | {"id": path, "audio": path, "listed_seconds": row.cells.get("duration")}

    def _described(self, row: Row) -> dict[str, Any]:
        """What the .json says of the music; nothing it says takes the place of a manifest's field."""
        info_path = row.cells.get("info_path")
        place = self._place(row, "path").with_suffix(".json") if info_path is None else self._place(row, "info_path")
        if not place.is_file():
            return {}
        text = place.read_bytes().decode(errors="surrogateescape")
        taken = ("id", "audio", "start", "duration", "split", "caption", "alt_captions", "piece", "midi")
        return {name: value for name, value in load_row(text, str(place)).items() if name not in taken}

    def _place(self, row: Row, name: str) -> Path:
        return path_in_folder(self.audio_folder, row.cells.get(name), row.where, self.allow_outside)


def _manifest(path: Path) -> Path:
    if not path.is_dir():
        return path
    return next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0])


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The non-empty lines, each with its place; what is not UTF-8 is left for `load_row` to tell."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, row {number}", line
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: not a whole .gz file ({error}); copy it again") from error


def _tags(described: dict[str, Any]) -> list[str]:
    """The values of the fields that hold tags: a text, or a list of texts."""
    tags: list[str] = []
    for name in TAGS:
        value = described.get(name) or []
        tags += [str(each) for each in (value if isinstance(value, list) else [value])]
    return tags
