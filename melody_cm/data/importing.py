"""Makes a manifest of a table in another collection's format, beside the sound files that one has."""

import inspect
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melody_cm.data.clips import Clip, RowReader, check_row, refuse_conflicts
from melody_cm.data.formats import FORMATS
from melody_cm.data.formats.tables import Fields
from melody_cm.data.manifest import write_manifest
from melody_cm.storage import located


@dataclass
class ImportReport:
    """What became of the rows of a table."""

    clips: Counter[str] = field(default_factory=Counter)  # Rows of the manifest that have sound, by split.
    without_audio: int = 0  # Rows of the manifest that name no sound file.
    missing: list[str] = field(default_factory=list)  # A line for each row left out for want of its sound file.
    problems: list[str] = field(default_factory=list)  # A line for each row that cannot be understood.


def import_corpus(
    form: str,
    sources: Sequence[str],
    out: Path,
    audio: Path | None = None,
    allow_outside: bool = False,
    force: bool = False,
    **options: Any,
) -> ImportReport:
    """Write the manifest of a collection that is described by a table in another format.

    Args:
        form: a name in `FORMATS`.
        sources: the table; or train=FILE, valid=FILE, test=FILE for formats with a file a split.
        out: the manifest. Its folder must hold the sound files, in it or below.
        audio: the folder that the table's paths are relative to; the folder of the first table if None.
        allow_outside: let the manifest name sound files outside its folder; a corpus must then allow it too.
        force: replace `out` if it holds something else.
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
    table = Path(sources[0].partition("=")[2] or sources[0])
    folder = audio or (table if table.is_dir() else table.parent)
    if not allow_outside and not folder.resolve().is_relative_to(out.parent.resolve()):
        place = f"{out} does not lie above {folder}, which holds the sound files"
        raise ValueError(f"{place}; give another --out, or --allow-outside")
    report, rows, clips = ImportReport(), [], []
    for where, row in FORMATS[form](sources, folder, **options):
        try:
            with located(where):
                fields = row()
                if fields is None:
                    continue
                fields, clip = _place(fields, where, folder, RowReader(out.parent, "train", allow_outside))
        except ValueError as error:
            report.problems.append(str(error))
            continue
        if clip is not None and not clip.audio.is_file():
            report.missing.append(f"{where}: {clip.audio}")
            continue
        rows.append(fields)
        clips += [clip] if clip else []
    report.clips, report.without_audio = Counter(clip.split for clip in clips), len(rows) - len(clips)
    if report.missing and not clips:
        raise FileNotFoundError(
            f"{folder}: holds none of the {len(report.missing)} sound files that {sources[0]} names; "
            f"the first would be {report.missing[0]}"
        )
    refuse_conflicts(clips)
    write_manifest(out, rows, force)
    return report


def _place(fields: Fields, where: str, folder: Path, reader: RowReader) -> tuple[Fields, Clip | None]:
    """The fields of a row as the manifest says them, and its clip, if it has sound."""
    audio = fields["audio"]
    if isinstance(audio, str) and audio:
        if "\\" in audio and not (folder / audio).is_file():  # Written by Windows.
            audio = audio.replace("\\", "/")
        audio = os.path.relpath(folder / audio, reader.folder)
    fields = {"id": fields["id"]} | fields | {"audio": audio}
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8 text; save the file as UTF-8") from None
    check_row(fields)
    return fields, None if audio is None else reader.clip_of(fields, where)
