"""Makes a manifest of a table in another collection's format, beside the sound files that one has."""

import inspect
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melody_cm.data.clips import RowReader, refuse_conflicts
from melody_cm.data.formats import FORMATS
from melody_cm.storage import write_text


@dataclass
class ImportReport:
    """What became of the rows of a table.

    Attributes:
        clips: rows of the manifest that have sound, by split.
        without_audio: rows of the manifest that name no sound file.
        missing: one line for each row that is left out because its sound file is not there.
        problems: one line for each row that is left out because it cannot be understood.
    """

    clips: Counter[str] = field(default_factory=Counter)
    without_audio: int = 0
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def import_corpus(
    form: str,
    sources: Sequence[str],
    out: Path,
    audio: Path | None = None,
    allow_outside: bool = False,
    **options: Any,
) -> ImportReport:
    """Write the manifest of a collection that is described by a table in another format.

    Args:
        form: a name in `FORMATS`.
        sources: the table; or train=FILE, valid=FILE, test=FILE for formats with a file a split.
        out: the manifest. Its folder must hold the sound files, in it or below.
        audio: the folder that the table's paths are relative to; the folder of the first table if None.
        allow_outside: let the manifest name sound files outside its folder; a corpus must then allow it too.
        options: of the format: see its function.

    Raises:
        FileNotFoundError: a table or all sound files are not there.
        ValueError: no such format or option, a table that is not of this format, an id of two rows, or a piece in two
            splits.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form!r}; use one of {', '.join(FORMATS)}")
    for name in set(options) - set(inspect.signature(FORMATS[form]).parameters):
        raise ValueError(f"the format {form} has no option {name}")
    folder, reader, report = audio or _folder_of(sources[0]), RowReader(out.parent, "train", allow_outside), ImportReport()
    rows, clips = [], []
    for row in FORMATS[form](sources, folder, **options):
        if isinstance(row, ValueError):
            report.problems.append(str(row))
            continue
        fields = row.cells | {"audio": _relative(folder, row.cells["audio"], out.parent)}
        try:
            clip = reader.clip_of(fields | {"audio": fields["audio"] or "none"}, row.where)
        except ValueError as error:
            report.problems.append(str(error))
            continue
        if fields["audio"] is not None and not clip.audio.is_file():
            report.missing.append(f"{row.where}: {clip.audio}")
            continue
        report.without_audio += fields["audio"] is None
        report.clips[clip.split] += fields["audio"] is not None
        rows.append(fields)
        clips.append(clip)
    if report.missing and not clips:
        raise FileNotFoundError(
            f"{folder}: holds none of the {len(report.missing)} sound files that {sources[0]} names; "
            f"the first would be {report.missing[0]}"
        )
    refuse_conflicts(clip for clip, fields in zip(clips, rows, strict=True) if fields["audio"])
    write_text(out, "".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in rows))
    return report


def _folder_of(source: str) -> Path:
    """The folder of a table."""
    path = Path(source.partition("=")[2] or source)
    return path if path.is_dir() else path.parent


def _relative(folder: Path, audio: Any, to: Path) -> Any:
    """A path as the manifest's folder sees it; what is no path is left for the check of the row."""
    return os.path.relpath(folder / audio, to) if isinstance(audio, str) and audio else audio
