"""Collections with tags or metadata, of which captions are made: AudioCraft's manifests, FMA, MTG-Jamendo."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from melody_cm.data.clips import Split, load_row, located
from melody_cm.data.formats.tables import (
    Fields,
    Rows,
    TableRow,
    name_cells,
    number,
    read_cells,
    read_header,
    single_file,
    split_files,
    text_list,
    translate,
)

AUDIOCRAFT_NAMES = ("data.jsonl", "data.jsonl.gz")
AUDIOCRAFT_TAGS = ("genre", "moods", "instrument", "keywords")
# What the .json beside a sound file may not say in the manifest's place.
TAKEN = ("id", "audio", "start", "duration", "split", "caption", "alt_captions", "piece", "midi")
Subset = Literal["small", "medium", "large", "full"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
FMA_SPLITS: dict[str, Split] = {"training": "train", "validation": "valid", "test": "test"}
FMA_COLUMNS = ("set.split", "set.subset", "track.genre_top", "track.title", "artist.name")
JAMENDO_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
JAMENDO_TAGS = {"genre": "genres", "instrument": "instruments", "mood/theme": "moods"}


def tag_captions(*captions: str | None) -> Fields:
    """The caption fields of a row whose captions were put together from its tags, which `caption_from` says."""
    texts = list(dict.fromkeys(caption for caption in captions if caption))
    return {"caption": texts[0] if texts else None, "alt_captions": texts[1:], "caption_from": "tags"}


def comma_list(tags: Iterable[str]) -> str:
    """Tags as one line, each once."""
    return ", ".join(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))


def audiocraft(sources: Sequence[str], audio: Path) -> Rows:
    """Manifests of AudioCraft, train=FILE and so on: a JSON object a line for each sound file.

    FILE is a data.jsonl or data.jsonl.gz, or the folder that it lies in. A caption is the `description` in the .json
    of the same stem (or at `info_path`), else its genre, moods, instrument and keywords. All its fields are kept, and
    so are `amplitude` and `weight`; weight has no effect.
    """
    files = split_files(sources)
    rows = chain.from_iterable(_audiocraft_rows(split, path) for split, path in files)
    return translate(rows, partial(_audiocraft_fields, folder=audio))


def _audiocraft_rows(split: Split, path: Path) -> Rows:
    if path.is_dir():
        path = next((path / name for name in AUDIOCRAFT_NAMES if (path / name).is_file()), path / AUDIOCRAFT_NAMES[0])
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number_of_row, line in enumerate(file, start=1):
                if line.strip():
                    yield _audiocraft_row(split, f"{path}, row {number_of_row}", line)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: not a whole .gz file ({error}); copy it again") from error


def _audiocraft_row(split: Split, where: str, line: bytes) -> TableRow | ValueError:
    try:
        with located(where):
            return TableRow(where, load_row(line) | {"split": split})
    except ValueError as error:
        return error


def _audiocraft_fields(cells: Fields, folder: Path) -> Fields:
    path, info = cells.get("path"), cells.get("info_path")
    for name, value in (("path", path), ("info_path", info or "")):
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; a path relative to {folder} is needed")
    if ".zip:" in path:
        raise ValueError(f"{path} lies in an archive; unpack it and list its files")
    described = _described(folder / (info or Path(path).with_suffix(".json")))
    listed = {name: value for name, value in cells.items() if name not in ("path", "duration")}
    caption = described.get("description")
    captions = {"caption": caption} if caption else tag_captions(comma_list(_audiocraft_tags(described)))
    return described | listed | captions | {"id": path, "audio": path, "listed_seconds": cells.get("duration")}


def _described(path: Path) -> Fields:
    if not path.is_file():
        return {}
    with located(path):
        return {name: value for name, value in load_row(path.read_bytes()).items() if name not in TAKEN}


def _audiocraft_tags(described: Fields) -> Iterator[str]:
    """The values of the fields that hold tags: a text, or a list of texts."""
    for value in (described.get(name) or [] for name in AUDIOCRAFT_TAGS):
        yield from (str(each) for each in (value if isinstance(value, list) else [value]))


def fma(sources: Sequence[str], audio: Path, subset: Subset = "full") -> Rows:
    """The Free Music Archive dataset (Defferrard et al. 2017), tracks.csv of fma_metadata, in the official splits.

    Captions are made of genre, title, artist and tags. Sound files are `000/000002.mp3`. Each subset holds the one
    before it.
    """
    path = single_file(sources)
    cells = read_cells(path)
    upper, lower = read_header(path, cells), read_header(path, cells)
    header = [f"{group}.{name}" for group, name in zip(upper, lower, strict=False)]
    missing = [name for name in FMA_COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path}: no column '{missing[0]}' in its first two rows; give tracks.csv of fma_metadata")
    # The third row only names the first column.
    tracks = (row for row in cells if isinstance(row, ValueError) or row[1][0] != "track_id")
    return translate(name_cells(tracks, ["track_id", *header[1:]]), partial(_fma_fields, subset=subset))


def _fma_fields(cells: Fields, subset: Subset) -> Fields | None:
    if cells["set.subset"] not in SUBSETS or cells["set.split"] not in FMA_SPLITS:
        raise ValueError(f"split {cells['set.split']!r}, subset {cells['set.subset']!r} are not FMA's")
    if SUBSETS.index(cells["set.subset"]) > SUBSETS.index(subset):
        return None
    if not cells["track_id"].isdecimal():
        raise ValueError(f"track_id is {cells['track_id']!r}; a number is needed")
    track = int(cells["track_id"])
    tags = text_list(cells, "track.tags") if "track.tags" in cells else []
    genre, title, artist = (cells[name].strip() for name in ("track.genre_top", "track.title", "artist.name"))
    named = " by ".join(part for part in (f'"{title}"' if title else "", artist) if part)
    return tag_captions(comma_list([genre, named]), comma_list([genre, *tags])) | {
        "id": str(track),
        "audio": f"{track // 1000:03}/{track:06}.mp3",
        "piece": str(track),
        "split": FMA_SPLITS[cells["set.split"]],
        "genre": genre or None,
        "title": title or None,
        "artist": artist or None,
        "tags": tags,
        "license": cells.get("track.license") or None,
    }


def jamendo(sources: Sequence[str], audio: Path) -> Rows:
    """MTG-Jamendo (Bogdanov et al. 2019), train=FILE and so on: the tab-separated files of one official split.

    The caption is made of the tags. Sound files are `34/786434.mp3` as listed, or `34/786434.low.mp3` of the
    low-quality version. An artist in two splits is an error.
    """
    rows = chain.from_iterable(_jamendo_rows(split, path) for split, path in split_files(sources))
    return translate(rows, partial(_jamendo_fields, folder=audio, splits={}))


def _jamendo_rows(split: Split, path: Path) -> Rows:
    """The cells by column; from TAGS on, all are tags."""
    cells = read_cells(path, "\t")
    if read_header(path, cells) != JAMENDO_COLUMNS:
        raise ValueError(f"{path}: not a file of MTG-Jamendo; its first row is not {' '.join(JAMENDO_COLUMNS)}")
    *columns, tags = JAMENDO_COLUMNS
    for row in cells:
        if isinstance(row, ValueError):
            yield row
        elif len(row[1]) < len(columns):
            yield ValueError(f"{row[0]}: {len(row[1])} cells; at least {len(columns)} are needed, with tabs between")
        else:
            named = dict(zip(columns, row[1], strict=False))
            yield TableRow(row[0], named | {tags: row[1][len(columns) :], "split": split})


def _jamendo_fields(cells: Fields, folder: Path, splits: dict[str, Split]) -> Fields:
    artist, path = cells["ARTIST_ID"], cells["PATH"]
    if splits.setdefault(artist, cells["split"]) != cells["split"]:
        both = f"{artist} is in {cells['split']} here and in {splits[artist]} before"
        raise ValueError(f"{both}; take files of one and the same official split")
    tags: dict[str, list[str]] = {name: [] for name in JAMENDO_TAGS.values()}
    for tag in filter(None, cells["TAGS"]):
        kind, _, value = tag.partition("---")
        if kind not in JAMENDO_TAGS or not value:
            raise ValueError(f"tag {tag!r}; one like genre---rock is needed, of {', '.join(JAMENDO_TAGS)}")
        tags[JAMENDO_TAGS[kind]].append(value)
    low = str(Path(path).with_suffix(".low.mp3"))
    only_low = (folder / low).is_file() and not (folder / path).is_file()
    captions = tag_captions(comma_list([*tags["moods"], *tags["genres"], *tags["instruments"]]))
    return (
        captions
        | tags
        | {
            "id": cells["TRACK_ID"],
            "piece": cells["TRACK_ID"],
            "audio": low if only_low else path,
            "split": cells["split"],
            "artist": artist,
            "album": cells["ALBUM_ID"],
            "listed_seconds": number(cells, "DURATION"),
        }
    )
