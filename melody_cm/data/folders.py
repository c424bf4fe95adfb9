"""The sound files below a folder, and a count of what lies there and is not taken."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from melody_cm.data.audio_files import AUDIO_SUFFIXES

# Sound that libsndfile does not read.
UNREAD_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".alac", ".wma", ".webm", ".mka", ".mkv", ".ape", ".wv", ".tta", ".mpc", ".ac3"),
    *(".dsf", ".dff", ".ra", ".amr", ".3gp", ".mp2"),
)


class FolderScan(NamedTuple):
    """What is found below a folder."""

    files: list[Path]  # Sorted.
    # By kind: unread formats by suffix, hidden or unreadable folders, hidden or unfinished sounds.
    left_out: Counter[str]


def scan_folder(path: Path) -> FolderScan:
    """What is found below a folder; a FileNotFoundError if there is none. Links to folders are followed, each folder is
    entered once, whatever leads to it, and hidden ones are left out."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    files, left_out, entered = [], [], set()

    def unreadable(error: OSError) -> None:
        if (real := os.path.realpath(error.filename)) not in entered:
            left_out.append(f"unreadable folder {error.filename} ({error.strerror})")
            entered.add(real)

    for folder, folders, names in os.walk(path, onerror=unreadable, followlinks=True):
        here, real = Path(folder), os.path.realpath(folder)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        left_out += ["hidden folder" for name in folders if name.startswith(".")]
        # Folders that lie here come before links, so that a file is called by its own place.
        shown = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(shown, key=lambda name: ((here / name).is_symlink(), name))
        for name in names:
            if reason := _why_not(name):
                left_out.append(reason)
            elif reason == "":
                files.append(here / name)
    return FolderScan(sorted(files), Counter(left_out))


def _why_not(name: str) -> str | None:
    """Why a file is not taken: empty if it is, None if it is no sound."""
    suffix, hidden = os.path.splitext(name)[1].lower(), name.startswith(".")
    if suffix in AUDIO_SUFFIXES:
        return "hidden file" if hidden else "unfinished .partial.wav" if name.endswith(".partial.wav") else ""
    return suffix if suffix in UNREAD_SUFFIXES and not hidden else None
