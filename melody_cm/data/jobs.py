"""What long work on music shares: a progress bar, the number of cores, a lock, and the folder for what is kept."""

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track


def progress(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    """The items, behind a progress bar where a terminal shows it."""
    console = Console(stderr=True)
    yield from track(items, title, total, console=console, transient=True, disable=not console.is_terminal)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Where rendered music, hashes and statistics are kept: $MELODY_CM_CACHE, or ~/.cache/melody_cm."""
    return Path(os.environ.get("MELODY_CM_CACHE") or "~/.cache/melody_cm").expanduser()


def require_writable(folder: Path) -> Path:
    """The folder, which may not be there yet, if files can be written into it; asked before long work.

    Raises:
        OSError: they cannot.
    """
    try:
        place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise OSError(f"{folder}: no files can be written there ({error.strerror}); give another place") from error
    return folder


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, waiting until no other process does; the empty file stays.

    The lock ends with its process, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
