"""Locks between processes. The system frees them when their process ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def locked(path: Path, taken: str | None = None) -> Iterator[None]:
    """Hold the lock file at `path`, which is made, and goes with the lock.

    Args:
        taken: what is said where another holds it; None waits for it.

    Raises:
        ValueError: another holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=taken is None)
    except Timeout as error:
        raise ValueError(taken) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows takes it away by itself, once it is free.
            path.unlink()
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock file at `path`."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
