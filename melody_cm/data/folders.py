"""The sound files below a folder, and a count of what lies there and is not taken."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from melody_cm.data.audio_files import AUDIO_SUFFIXES

# Sound that libsndfile does not read.
UNREAD_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".alac", ".wma", ".webm", ".mka", ".mkv", ".ape", ".wv", ".tta", ".mpc", ".ac3"),
    *(".dsf", ".dff", ".ra", ".amr", ".3gp", ".mp2"),
)


@dataclass
class FolderScan:
    """What is found below a folder.

    Links to folders are followed, each folder is entered once, whatever leads to it, and hidden ones are left out.
    """

    files: list[Path] = field(default_factory=list)  # Sorted.
    # By kind: unread formats by suffix, hidden or unreadable folders, hidden or unfinished sounds.
    left_out: Counter[str] = field(default_factory=Counter)

    def enter(self, folder: Path, entered: set[str]) -> None:
        """Add what is below a folder; `entered` are the real paths of those seen before."""
        try:
            # Folders that lie here come before links, so that a file is called by its own place.
            places = sorted(os.scandir(folder), key=lambda place: (place.is_symlink(), place.name))
        except OSError as error:
            self.left_out[f"unreadable folder {folder} ({error.strerror})"] += 1
            return
        for place in places:
            self._take(place, folder / place.name, entered)

    def _take(self, place: os.DirEntry[str], path: Path, entered: set[str]) -> None:
        suffix, hidden = path.suffix.lower(), place.name.startswith(".")
        if place.is_dir():
            real = os.path.realpath(path)
            if hidden:
                self.left_out["hidden folder"] += 1
            elif real not in entered:
                entered.add(real)
                self.enter(path, entered)
        elif suffix in AUDIO_SUFFIXES and not (hidden or place.name.endswith(".partial.wav")):
            self.files.append(path)
        elif suffix in AUDIO_SUFFIXES:
            self.left_out["hidden file" if hidden else "unfinished .partial.wav"] += 1
        elif suffix in UNREAD_SUFFIXES and not hidden:
            self.left_out[suffix] += 1

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.left_out.items()))


def scan_folder(path: Path) -> FolderScan:
    """What is found below a folder; a FileNotFoundError if there is none."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    scan = FolderScan()
    scan.enter(path, {os.path.realpath(path)})
    scan.files.sort()
    return scan


def folder_files(path: Path) -> list[Path]:
    """The sound files below a folder, sorted; see `FolderScan`."""
    return scan_folder(path).files
