"""MusicCaps (Agostinelli et al. 2023): captions of ten seconds in YouTube videos, whose sound the user brings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from melody_cm.data.audio_files import AudioProblem, audio_info
from melody_cm.data.clips import Split
from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.tables import Row, literal_list, number, read_rows
from melody_cm.data.manifest import folder_files, hashed_split

NEEDED = ("ytid", "start_s", "end_s", "aspect_list", "caption")
# A video's id, or one with the place of the clip: ID_30, ID_30_40, ID_30000_40000 (ms), [ID]-[30-40].
NAME = re.compile(r"\[?(?P<id>[\w-]{11})\]?(?:[-_]\[?(?P<start>\d+)(?:[-_](?P<end>\d+))?\]?)?")
# Cut clips come out a little longer or shorter than they should.
TOLERANCE_SECONDS = 1.0


class SoundFile(NamedTuple):
    """A file of the audio folder, and the seconds at which its name says that it was cut out; None for no such name."""

    path: Path
    start: int | None


class MusicCapsCorpus(DescribedCorpus):
    """The clips of MusicCaps' CSV whose sound lies in a folder (or below), as whole videos or cut clips.

    `ID_START.ext` and `[ID]-[START-END].ext` are cut clips. `ID.ext` is one if its header says that it is no longer
    than the clip, else a whole video, of which start_s to end_s is taken. Rows of AudioSet's evaluation part are split
    test; of the others, a tenth by their id is valid.

    Args:
        path: musiccaps-public.csv.
        audio_folder: the sound files.
    """

    def __init__(self, path: str, audio_folder: str) -> None:
        super().__init__([Path(path)], Path(audio_folder))
        self._files: dict[str, list[SoundFile]] = {}

    def rows(self) -> Iterator[Row | ValueError]:
        self._files = _files_by_id(self.audio_folder)
        return read_rows(self.tables[0], NEEDED)

    def fields(self, row: Row) -> dict[str, Any]:
        cells = row.cells
        ytid, aspects = cells["ytid"], literal_list(row, "aspect_list")
        other = ("ytid", "start_s", "end_s", "aspect_list", "caption")
        return (
            {name: value for name, value in cells.items() if name not in other}
            | self._place(row)
            | {
                "id": ytid,
                "piece": ytid,
                "split": _split(cells.get("is_audioset_eval", ""), ytid),
                "caption": cells["caption"].strip() or None,
                "alt_captions": [", ".join(aspects)] if aspects else [],
                "aspects": aspects,
            }
        )

    def _place(self, row: Row) -> dict[str, Any]:
        """Sound file, start and duration."""
        ytid, begin, end = row.cells["ytid"], number(row, "start_s"), number(row, "end_s")
        if not 0 <= begin < end:
            raise ValueError(f"{row.where}: start_s is {begin:g} and end_s {end:g}; the clip must end after it begins")
        files = self._files.get(ytid, [])
        cut = next((file for file in files if file.start in (int(begin), int(1000 * begin))), None)
        whole = next((file for file in files if file.start is None), None)
        file = cut or whole
        if file is None:
            return {"audio": f"{ytid}.*"}
        audio = file.path.relative_to(self.audio_folder).as_posix()
        return {"audio": audio} | ({} if file is cut else _within(file.path, begin, end))


def _within(path: Path, begin: float, end: float) -> dict[str, float]:
    """Where in a file that may be a whole video the clip lies."""
    try:
        seconds = audio_info(path).seconds
    except AudioProblem:
        return {}  # Whoever reads the clip will tell.
    if seconds <= end - begin + TOLERANCE_SECONDS:
        return {}
    return {"start": begin, "duration": end - begin if seconds < begin else min(end, seconds) - begin}


def _files_by_id(folder: Path) -> dict[str, list[SoundFile]]:
    files: dict[str, list[SoundFile]] = {}
    for path in folder_files(folder):
        name = NAME.fullmatch(path.stem)
        if name:
            start = None if name["start"] is None else int(name["start"])
            files.setdefault(name["id"], []).append(SoundFile(path, start))
    return files


def _split(is_evaluation: str, ytid: str) -> Split:
    if is_evaluation.strip().lower() == "true":
        return "test"
    return "valid" if hashed_split(ytid) == "valid" else "train"
