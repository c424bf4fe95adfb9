"""The Free Music Archive dataset (Defferrard et al. 2017): tracks.csv, whose column names take two rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from melody_cm.data.clips import Split
from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.tables import Row, literal_list, name_cells, read_cells, read_header
from melody_cm.data.formats.tags import comma_list, tag_captions

Subset = Literal["small", "medium", "large", "full"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
SPLIT_NAMES: dict[str, Split] = {"training": "train", "validation": "valid", "test": "test"}
NEEDED = ("set.split", "set.subset", "track.genre_top", "track.title", "artist.name")


class FmaCorpus(DescribedCorpus):
    """The tracks of FMA's tracks.csv in the official splits; captions are made of genre, title, artist and tags.

    Args:
        path: tracks.csv of fma_metadata.
        audio_folder: the folder of the three-digit folders (000/000002.mp3).
        subset: which tracks should be there: each subset holds the one before it.
    """

    def __init__(self, path: str, audio_folder: str, subset: Subset = "full") -> None:
        super().__init__([Path(path)], Path(audio_folder))
        self.subset = subset

    def rows(self) -> Iterator[Row | ValueError]:
        path = self.tables[0]
        cells = read_cells(path)
        upper, lower = read_header(path, cells), read_header(path, cells)
        header = [f"{group}.{name}" for group, name in zip(upper, lower, strict=False)]
        missing = [name for name in NEEDED if name not in header]
        if missing:
            raise ValueError(f"{path}: no column '{missing[0]}' in its first two rows; give tracks.csv of fma_metadata")
        # The third row only names the first column.
        header[0] = "track_id"
        for row in cells:
            if isinstance(row, ValueError):
                yield row
            elif row[1][0] != "track_id":
                yield name_cells(*row, header)

    def fields(self, row: Row) -> dict[str, Any] | None:
        cells = row.cells
        if cells["set.subset"] not in SUBSETS or cells["set.split"] not in SPLIT_NAMES:
            raise ValueError(f"{row.where}: split {cells['set.split']!r}, subset {cells['set.subset']!r} are not FMA's")
        if SUBSETS.index(cells["set.subset"]) > SUBSETS.index(self.subset):
            return None
        number = _track_number(row)
        tags = literal_list(row, "track.tags") if "track.tags" in cells else []
        return _captions(cells, tags) | {
            "id": str(number),
            "audio": f"{number // 1000:03}/{number:06}.mp3",
            "piece": str(number),
            "split": SPLIT_NAMES[cells["set.split"]],
            "genre": cells["track.genre_top"] or None,
            "title": cells["track.title"] or None,
            "artist": cells["artist.name"] or None,
            "tags": tags,
            "license": cells.get("track.license") or None,
        }


def _track_number(row: Row) -> int:
    text = row.cells["track_id"]
    if not text.isdecimal():
        raise ValueError(f"{row.where}: track_id is {text!r}; a number is needed")
    return int(text)


def _captions(cells: dict[str, str], tags: list[str]) -> dict[str, Any]:
    genre, title, artist = (cells[name].strip() for name in ("track.genre_top", "track.title", "artist.name"))
    named = " by ".join(part for part in (f'"{title}"' if title else "", artist) if part)
    return tag_captions(comma_list([genre, named]), comma_list([genre, *tags]))
