"""Which text belongs to which sound file, from a file of prompts."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from melody_cm.data import Clip


def read_prompts(path: str | Path, clips: Sequence[Clip]) -> dict[str, str]:
    """The prompt of every clip by its id.

    Args:
        path: a `.jsonl` or `.csv` with the fields `file` (path in the folder, or the file's name) and `caption`; in any
            other file the lines that are not empty are the prompts of the clips in their (sorted) order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another number of prompts than clips, a clip without one, or a prompt for a file that is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of prompts")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if path.suffix in (".jsonl", ".csv"):
        rows = _json_rows(path, text) if path.suffix == ".jsonl" else list(csv.DictReader(io.StringIO(text)))
        return _by_name(path, rows, clips)
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    _check_count(path, len(prompts), clips)
    return {clip.id: prompt for clip, prompt in zip(clips, prompts, strict=True)}


def _json_rows(path: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, row {number}: not JSON ({error})") from error
    return rows


def _by_name(path: Path, rows: Sequence[Any], clips: Sequence[Clip]) -> dict[str, str]:
    _check_count(path, len(rows), clips)
    captions: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        fields = [row.get(name) if isinstance(row, dict) else None for name in ("file", "caption")]
        if not all(isinstance(value, str) and value.strip() for value in fields):
            raise ValueError(f"{path}, row {number}: the texts 'file' and 'caption' are needed, not {row!r}")
        if fields[0] in captions:
            raise ValueError(f"{path}, row {number}: {fields[0]!r} is named twice; give every file one prompt")
        captions[fields[0]] = fields[1].strip()
    names = {name for clip in clips for name in (clip.id, clip.audio.name)}
    if unknown := [name for name in captions if name not in names]:
        raise ValueError(f"{path}: {len(unknown)} prompts for files that are not there, the first {unknown[0]!r}")
    found = {clip.id: captions.get(clip.id, captions.get(clip.audio.name)) for clip in clips}
    if without := [name for name, caption in found.items() if caption is None]:
        raise ValueError(f"{path}: no prompt for {len(without)} of the files, the first {without[0]!r}")
    return {name: caption for name, caption in found.items() if caption is not None}


def _check_count(path: Path, count: int, clips: Sequence[Clip]) -> None:
    if count != len(clips):
        raise ValueError(f"{path}: {count} prompts for {len(clips)} sound files; give one for each, in sorted order")
