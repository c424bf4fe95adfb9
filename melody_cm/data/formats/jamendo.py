"""MTG-Jamendo (Bogdanov et al. 2019): full tracks with tags, the official splits as tab-separated files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from melody_cm.data.clips import Clip, Split
from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.split_files import split_files
from melody_cm.data.formats.tables import Row, number, read_cells, read_header
from melody_cm.data.formats.tags import comma_list, tag_captions

COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
KINDS = {"genre": "genres", "instrument": "instruments", "mood/theme": "moods"}


class JamendoCorpus(DescribedCorpus):
    """The tracks that the split files of MTG-Jamendo list; the caption is made of their tags.

    Sound files are `34/786434.mp3` as listed, or `34/786434.low.mp3` of the low-quality version.

    Args:
        audio_folder: the folder of the two-digit folders.
        train, valid, test: a split file each, such as autotagging_moodtheme-train.tsv; at least one.

    Raises:
        ValueError: when read, if an artist is in two splits.
    """

    def __init__(
        self, audio_folder: str, train: str | None = None, valid: str | None = None, test: str | None = None
    ) -> None:
        self.files = split_files(train, valid, test)
        super().__init__([path for _, path in self.files], Path(audio_folder))

    def rows(self) -> Iterator[Row | ValueError]:
        for split, path in self.files:
            cells = read_cells(path, "\t")
            if read_header(path, cells) != COLUMNS:
                raise ValueError(f"{path}: not a file of MTG-Jamendo; its first row is not {' '.join(COLUMNS)}")
            for row in cells:
                yield row if isinstance(row, ValueError) else _named(*row, split)

    def fields(self, row: Row) -> dict[str, Any]:
        cells = row.cells
        tags: dict[str, list[str]] = {name: [] for name in KINDS.values()}
        for tag in cells["TAGS"]:
            kind, _, value = tag.partition("---")
            if kind not in KINDS or not value:
                raise ValueError(f"{row.where}: tag {tag!r}; one like genre---rock is needed, of {', '.join(KINDS)}")
            tags[KINDS[kind]].append(value)
        captions = tag_captions(comma_list([*tags["moods"], *tags["genres"], *tags["instruments"]]))
        return (
            captions
            | tags
            | {
                "id": cells["TRACK_ID"],
                "piece": cells["TRACK_ID"],
                "audio": self._audio(cells["PATH"]),
                "split": cells["split"],
                "artist": cells["ARTIST_ID"],
                "album": cells["ALBUM_ID"],
                "listed_seconds": number(row, "DURATION"),
            }
        )

    def entries(self) -> Iterator[Clip | ValueError | None]:
        artists: dict[str, Clip] = {}
        leaked: set[str] = set()
        for entry in super().entries():
            yield entry
            if isinstance(entry, Clip):
                artist = entry.fields["artist"]
                other = artists.setdefault(artist, entry)
                if other.split != entry.split and artist not in leaked:
                    leaked.add(artist)
                    yield ValueError(
                        f"{entry.where}: {artist} is in {entry.split} here and in {other.split} at {other.where}; "
                        "take files of one and the same official split"
                    )

    def _audio(self, path: str) -> str:
        low = str(Path(path).with_suffix(".low.mp3"))
        return low if (self.audio_folder / low).is_file() and not (self.audio_folder / path).is_file() else path


def _named(where: str, cells: list[str], split: Split) -> Row | ValueError:
    """The cells by column; from TAGS on, all are tags."""
    if len(cells) < len(COLUMNS) - 1:
        return ValueError(f"{where}: {len(cells)} cells; at least {len(COLUMNS) - 1} are needed, with tabs between")
    fixed = len(COLUMNS) - 1
    tags = [cell for cell in cells[fixed:] if cell]
    return Row(where, dict(zip(COLUMNS, cells[:fixed], strict=False)) | {"TAGS": tags, "split": split})
