"""The processes of one training: which is the first of all, and what the others do when it is gone."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from melody_cm.storage import is_locked, locked

# Each is 0 in the first process of all; torchrun, SLURM, Open MPI and Lightning set some of them.
RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "NODE_RANK", "LOCAL_RANK")
LOCK, ALIVE = ".lock", ".first"
PROBE_SECONDS = 5.0
PATIENCE_SECONDS = 50.0
LOST = 3  # Exit code of a process whose training has lost its first one.


def is_first_process() -> bool:
    """Whether this is the process that the user started, or the first on the first node of those of a launcher; a
    ValueError if one of `RANKS` is no number."""
    return all(_rank(name) == 0 for name in RANKS)


def require_first() -> None:
    """Refuse with a ValueError variables by which a training of one process is not the first of several."""
    for name in RANKS:
        if _rank(name):
            raise ValueError(
                f"the environment variable {name} is {_rank(name)}, but trainer is set for one process; unset it or "
                "say how many there are, as --machine ddp, slurm and multinode do"
            )


def _rank(name: str) -> int:
    given = os.environ.get(name, "0")
    if not given.isdecimal():
        raise ValueError(f"the environment variable {name} is {given!r}, not the number of a process; unset it")
    return int(given)


def say(line: str) -> None:
    """Print a line once, however many processes train."""
    if is_first_process():
        print(line, flush=True)


def wait_until(done: Callable[[], bool], otherwise: str) -> None:
    """Wait for what the first process does; an OSError that says `otherwise` after a minute."""
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            raise OSError(otherwise)
        time.sleep(0.05)


@contextmanager
def one_training(folder: Path) -> Iterator[None]:
    """Keep a second command from training the same run, by a ValueError. The first process of a training holds the lock
    for all of them; the others end when it is gone, whatever they wait for."""
    if is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        taken = f"{folder} is being trained by another command; wait for it, or use another --run"
        with locked(folder / LOCK, taken), locked(folder / ALIVE):
            yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(folder / ALIVE, over, _leave), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(path: Path, over: threading.Event, leave: Callable[[str], None]) -> None:
    """Call `leave` with the reason when nobody has held the lock for a while."""
    begun, seen = time.monotonic(), 0.0
    while not over.wait(PROBE_SECONDS):
        if is_locked(path):
            seen = time.monotonic()
        elif time.monotonic() - max(begun, seen) > PATIENCE_SECONDS:
            unseen = f"was never seen in {path.parent.absolute()}; all processes must see the same folder of --runs"
            leave("is gone; the message of it says why" if seen else unseen)
            return


def _leave(reason: str) -> None:
    """End at once: the main thread may wait inside a collective, where nothing else reaches it."""
    print(f"melody-cm: the first process of this training {reason}", flush=True)
    os._exit(LOST)
