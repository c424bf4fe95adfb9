"""Collections whose captions people wrote: CSV files of one's own, MusicCaps, Song Describer."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from melody_cm.data.audio_files import AudioProblem, audio_info
from melody_cm.data.clips import Split
from melody_cm.data.folders import scan_folder
from melody_cm.data.formats.tables import Fields, Rows, numeric_cell, read_rows, single_file, text_list, without
from melody_cm.data.manifest import hashed_split

MUSICCAPS = ("ytid", "start_s", "end_s", "aspect_list", "caption")
# A video's id, or one with the place of the clip: ID_30, ID_30_40, ID_30000_40000 (ms), [ID]-[30-40].
NAME = re.compile(r"\[?(?P<id>[\w-]{11})\]?(?:[-_]\[?(?P<start>\d+)(?:[-_](?P<end>\d+))?\]?)?")
# Cut clips come out a little longer or shorter than they should.
TOLERANCE_SECONDS = 1.0


def csv_table(sources: Sequence[str], audio: Path | None = None, default_split: Split = "train") -> Rows:
    """A CSV file whose columns are the fields of a manifest (docs/data.md); empty cells are absent fields.

    Lists (alt_captions, instruments) are JSON, or texts with `|` between them. `audio` is relative to the file's
    folder, unless another folder is given.
    """
    fields = partial(_csv_fields, default_split=default_split)
    return read_rows(single_file(sources), ("id", "audio", "caption"), fields)


def _csv_fields(cells: Fields, default_split: Split) -> Fields:
    filled = {name: cell for name, cell in cells.items() if cell.strip()}
    if "id" not in filled:
        raise ValueError("the id is empty; give each row one of its own")
    fields = {"audio": None, "caption": None, "split": default_split} | filled
    fields |= {name: numeric_cell(filled, name) for name in ("start", "duration") if name in filled}
    return fields | {name: _texts(filled, name) for name in ("alt_captions", "instruments") if name in filled}


def _texts(cells: Fields, column: str) -> list[str]:
    if cells[column].strip().startswith("["):
        return text_list(cells, column, json.loads)
    return [text.strip() for text in cells[column].split("|") if text.strip()]


def musiccaps(sources: Sequence[str], audio: Path) -> Rows:
    """MusicCaps (Agostinelli et al. 2023), musiccaps-public.csv: captions of ten seconds in YouTube videos.

    The sound files in the folder (or below) are whole videos or cut clips: `ID_START.ext` and `[ID]-[START-END].ext`
    are cut. `ID.ext` is, if its header says that it is no longer than the clip; else start_s to end_s is taken of it.
    Rows of AudioSet's evaluation part are split test; of the others, a tenth by their id is valid.
    """
    files: dict[str, dict[int | None, Path]] = defaultdict(dict)
    for path in scan_folder(audio).files:
        if name := NAME.fullmatch(path.stem):
            files[name["id"]].setdefault(None if name["start"] is None else int(name["start"]), path)
    return read_rows(single_file(sources), MUSICCAPS, partial(_musiccaps_fields, files=files, folder=audio))


def _musiccaps_fields(cells: Fields, files: dict[str, dict[int | None, Path]], folder: Path) -> Fields:
    ytid, aspects = cells["ytid"], text_list(cells, "aspect_list")
    is_test = cells.get("is_audioset_eval", "").strip().lower() == "true"
    return without(cells, *MUSICCAPS) | {
        **_place(cells, files[ytid], folder),
        "id": ytid,
        "piece": ytid,
        "split": "test" if is_test else "valid" if hashed_split(ytid) == "valid" else "train",
        "caption": cells["caption"].strip() or None,
        "alt_captions": [", ".join(aspects)] if aspects else [],
        "aspects": aspects,
    }


def _place(cells: Fields, files: dict[int | None, Path], folder: Path) -> Fields:
    """Sound file, start and duration; `files` are those of the video, by the second at which they were cut out."""
    begin, end = numeric_cell(cells, "start_s"), numeric_cell(cells, "end_s")
    if not 0 <= begin < end:
        raise ValueError(f"start_s is {begin:g} and end_s {end:g}; the clip must end after it begins")
    cut = files.get(int(begin)) or files.get(int(1000 * begin))
    file = cut or files.get(None)
    if file is None:
        return {"audio": f"{cells['ytid']}.*"}
    return {"audio": file.relative_to(folder).as_posix()} | ({} if cut else _within(file, begin, end))


def _within(path: Path, begin: float, end: float) -> Fields:
    """Where in a file that may be a whole video the clip lies."""
    try:
        seconds = audio_info(path).seconds
    except AudioProblem:
        return {}  # Whoever reads the clip will tell.
    if seconds <= end - begin + TOLERANCE_SECONDS:
        return {}
    return {"start": begin, "duration": end - begin if seconds < begin else min(end, seconds) - begin}


def song_describer(sources: Sequence[str], audio: Path, valid_subset: bool = False) -> Rows:
    """The Song Describer Dataset (Manco et al. 2023), song_describer.csv: two minutes of 706 MTG-Jamendo tracks.

    A track is one clip of split test, with all its captions. Sound files are `00/1004034.2min.mp3` as distributed, or
    the path that the table gives. With `valid_subset`, only captions that were found valid are kept, as in published
    results.
    """
    needed = ["caption_id", "track_id", "caption", "path"] + ["is_valid_subset"] * valid_subset
    tracks: dict[str, Fields] = {}
    for where, row in read_rows(single_file(sources), needed, dict):
        try:
            cells = row()
        except ValueError:
            yield where, row  # Whoever asks for the fields will tell.
            continue
        if not valid_subset or cells["is_valid_subset"].strip().lower() in ("true", "1"):
            track = tracks.setdefault(cells["track_id"], {**cells, "where": where, "captions": {}})
            track["captions"][cells["caption_id"]] = cells["caption"].strip()
    for cells in tracks.values():
        yield cells["where"], partial(_track_fields, cells, audio)


def _track_fields(cells: Fields, folder: Path) -> Fields:
    """A track stands at the place of its first caption, with the captions of all its rows."""
    listed, cut = Path(cells["path"]), Path(cells["path"]).with_suffix(".2min.mp3")
    as_listed = (folder / listed).is_file() and not (folder / cut).is_file()
    first, *others = cells["captions"].values()
    own = ("caption_id", "is_valid_subset", "familiarity", "captions", "duration", "path", "where")
    return without(cells, *own) | {
        "id": cells["track_id"],
        "audio": str(listed if as_listed else cut),
        "piece": cells["track_id"],
        "split": "test",
        "caption": first,
        "alt_captions": others,
        "caption_ids": list(cells["captions"]),
        # Of the track that the two minutes were taken from.
        "listed_seconds": cells.get("duration"),
    }
