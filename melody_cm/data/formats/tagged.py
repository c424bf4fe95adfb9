"""Collections with tags or metadata, of which captions are made: AudioCraft's manifests, FMA, MTG-Jamendo."""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from melody_cm.data.clips import Split, load_row
from melody_cm.data.formats.tables import (
    Fields,
    Rows,
    numeric_cell,
    read_cells,
    read_header,
    single_file,
    split_files,
    text_list,
    translate_cells,
    without,
)
from melody_cm.storage import located, read_whole

AUDIOCRAFT_NAMES = ("data.jsonl", "data.jsonl.gz")
# A row is shorter than this, and so is a file that unpacks to more than so many times its size.
MANY_BYTES, UNPACKED = 1 << 26, 200
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
    for split, path in split_files(sources):
        if path.is_dir():
            names = [name for name in AUDIOCRAFT_NAMES if (path / name).is_file()]
            path = path / (names or AUDIOCRAFT_NAMES)[0]
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                for place, line in enumerate(_lines(file, path), start=1):
                    if line.strip():
                        yield f"{path}, row {place}", partial(_audiocraft_fields, line, split, audio)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path}: not a whole .gz file ({error}); copy it again") from error


def _lines(file: io.BufferedIOBase, path: Path) -> Iterator[bytes]:
    """The lines of a file that may be compressed, but not so that it fills memory or takes for ever."""
    total, most = 0, max(MANY_BYTES, UNPACKED * path.stat().st_size)
    while line := file.readline(MANY_BYTES):
        total += len(line)
        if len(line) == MANY_BYTES or total > most:
            raise ValueError(f"{path}: unpacks to over {total >> 20} MiB, which no list of sound files does")
        yield line


def _audiocraft_fields(line: bytes, split: Split, folder: Path) -> Fields:
    cells = load_row(line)
    path, info = cells.get("path"), cells.get("info_path")
    for name, value in (("path", path), ("info_path", info or "")):
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; a path relative to {folder} is needed")
    if ".zip:" in path:
        raise ValueError(f"{path} lies in an archive; unpack it and list its files")
    described = _described(folder / (info or Path(path).with_suffix(".json")))
    listed = without(cells, "path", "duration") | {"split": split}
    caption = described.get("description")
    captions = {"caption": caption} if caption else tag_captions(comma_list(_audiocraft_tags(described)))
    return described | listed | captions | {"id": path, "audio": path, "listed_seconds": cells.get("duration")}


def _described(path: Path) -> Fields:
    if not path.is_file():
        return {}
    with located(path):
        return without(load_row(read_whole(path)), *TAKEN)


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
    rows = read_cells(path)
    upper, lower = read_header(path, rows), read_header(path, rows)
    header = ["track_id", *(f"{group}.{name}" for group, name in zip(upper[1:], lower[1:], strict=False))]
    missing = [name for name in FMA_COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path}: no column '{missing[0]}' in its first two rows; give tracks.csv of fma_metadata")
    for where, cells in rows:
        if cells[0] != "track_id":  # The third row only names the first column.
            yield where, partial(translate_cells, partial(_fma_fields, subset=subset), header, cells)


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
    splits: dict[str, Split] = {}
    for split, path in split_files(sources):
        rows = read_cells(path, "\t")
        if read_header(path, rows) != JAMENDO_COLUMNS:
            raise ValueError(f"{path}: not a file of MTG-Jamendo; its first row is not {' '.join(JAMENDO_COLUMNS)}")
        for where, cells in rows:
            yield where, partial(_jamendo_fields, cells, split, splits, audio)


def _jamendo_fields(cells: list[str], split: Split, splits: dict[str, Split], folder: Path) -> Fields:
    """The fields of a track; `splits` are those of the artists so far."""
    *columns, _ = JAMENDO_COLUMNS
    if len(cells) < len(columns):
        raise ValueError(f"{len(cells)} cells; at least {len(columns)} are needed, with tabs between")
    named = dict(zip(columns, cells, strict=False))
    artist, path = named["ARTIST_ID"], named["PATH"]
    if splits.setdefault(artist, split) != split:
        both = f"{artist} is in {split} here and in {splits[artist]} before"
        raise ValueError(f"{both}; take files of one and the same official split")
    tags: dict[str, list[str]] = {name: [] for name in JAMENDO_TAGS.values()}
    for tag in filter(None, cells[len(columns) :]):  # From TAGS on, all are tags.
        kind, _, value = tag.partition("---")
        if kind not in JAMENDO_TAGS or not value:
            raise ValueError(f"tag {tag!r}; one like genre---rock is needed, of {', '.join(JAMENDO_TAGS)}")
        tags[JAMENDO_TAGS[kind]].append(value)
    low = str(Path(path).with_suffix(".low.mp3"))
    only_low = (folder / low).is_file() and not (folder / path).is_file()
    fields = tags | tag_captions(comma_list([*tags["moods"], *tags["genres"], *tags["instruments"]]))
    return fields | {
        "id": named["TRACK_ID"],
        "piece": named["TRACK_ID"],
        "audio": low if only_low else path,
        "split": split,
        "artist": artist,
        "album": named["ALBUM_ID"],
        "listed_seconds": numeric_cell(named, "DURATION"),
    }
