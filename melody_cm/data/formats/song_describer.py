"""The Song Describer Dataset (Manco et al. 2023): two minutes of 706 MTG-Jamendo tracks, described by listeners."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.tables import Row, read_rows

NEEDED = ("caption_id", "track_id", "caption", "path")


class SongDescriberCorpus(DescribedCorpus):
    """The tracks of song_describer.csv, a clip each with all its captions, all of them of split test.

    Sound files are `00/1004034.2min.mp3` as distributed, or the path that the table gives.

    Args:
        path: song_describer.csv.
        audio_folder: the folder of the two-digit folders.
        valid_subset: keep only captions that were found valid (is_valid_subset), as published results do.
    """

    def __init__(self, path: str, audio_folder: str, valid_subset: bool = False) -> None:
        super().__init__([Path(path)], Path(audio_folder))
        self.valid_subset = valid_subset

    def rows(self) -> Iterator[Row | ValueError]:
        """A row for each track, at the place of its first caption, with the captions of all its rows."""
        tracks: dict[str, Row] = {}
        for row in read_rows(self.tables[0], (*NEEDED, "is_valid_subset") if self.valid_subset else NEEDED):
            if isinstance(row, ValueError):
                yield row
            elif not self.valid_subset or row.cells["is_valid_subset"].strip().lower() in ("true", "1"):
                first = tracks.setdefault(row.cells["track_id"], Row(row.where, row.cells | {"captions": []}))
                first.cells["captions"].append((row.cells["caption_id"], row.cells["caption"].strip()))
        yield from tracks.values()

    def fields(self, row: Row) -> dict[str, Any]:
        cells = row.cells
        own = ("caption_id", "is_valid_subset", "familiarity", "captions", "duration", "path")
        captions = [caption for _, caption in cells["captions"]]
        return {name: value for name, value in cells.items() if name not in own} | {
            "id": cells["track_id"],
            "audio": self._audio(cells["path"]),
            "piece": cells["track_id"],
            "split": "test",
            "caption": captions[0],
            "alt_captions": captions[1:],
            "caption_ids": [identity for identity, _ in cells["captions"]],
            # Of the track that the two minutes were taken from.
            "listed_seconds": cells.get("duration"),
        }

    def _audio(self, path: str) -> str:
        as_listed, cut = Path(path), Path(path).with_suffix(".2min.mp3")
        there = (self.audio_folder / as_listed).is_file() and not (self.audio_folder / cut).is_file()
        return str(as_listed if there else cut)
