"""What long work on music shares: a progress bar, the number of cores, and the folder for what is kept."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from torch.utils.data._utils import signal_handling

PATIENCE_SECONDS = 1800  # With a loader whose processes read music.
SHARED_MEMORY = Path("/dev/shm")  # Where the processes of a loader leave what they have read.
LOST = ("killed by signal", "exited unexpectedly", "timed out after", "shared memory")


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
    """The folder, which may not be there yet, if files can be written into it, else an OSError: before long work."""
    try:
        place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        with tempfile.TemporaryFile(dir=place) as probe:  # A full disk takes an empty one.
            probe.write(bytes(2**16))
    except OSError as error:
        raise OSError(f"{folder}: no files can be written there ({error.strerror}); give another place") from error
    return folder


def require_shared_memory(wanted: float, fix: str) -> None:
    """Refuse with an OSError what would wait for ever, because shared memory does not hold the `wanted` bytes."""
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else wanted
    if free < wanted:
        raise OSError(
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, but the processes that read music may hold "
            f"{wanted / 2**20:.0f} MiB there; give a container more by --shm-size, or {fix}"
        )


def notice_killed_workers() -> None:
    """Let a process of the next loader that is killed be noticed at once, not after `PATIENCE_SECONDS`.

    torch sets its handler for that once, and Lightning takes it away at the end of a training.
    """
    if hasattr(signal, "SIGCHLD") and not callable(signal.getsignal(signal.SIGCHLD)):
        signal_handling._SIGCHLD_handler_set = False


@contextmanager
def naming_lost_workers(work: str, fix: str) -> Iterator[None]:
    """Say by a one-line OSError what to do about a process of a loader that was killed, or from which nothing comes."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        raise OSError(
            f"a process that {work} was killed or gave nothing for long, perhaps for want of memory (also of "
            f"{SHARED_MEMORY}: --shm-size of a container); {fix}, and the same command goes on"
        ) from error
