"""Runs a call in a process of its own, with limits of time and memory, and watches what it tries to do.

The process is forked, so that it begins with everything imported: some thousands take minutes.
"""

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SECONDS = 10  # Of processor time.
PATIENCE = 120  # Seconds on the clock: a call that only waits, and one on a busy machine, has so many.
MEMORY = 2 * 2**30  # Bytes, beside what everything imported takes.
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "subprocess.Popen"),
    *("socket.connect", "socket.getaddrinfo", "pickle.find_class", "webbrowser.open"),
)
MARK = "ran"  # A hostile input that runs code makes a file of this name in its folder.


class Taken(AssertionError):
    """A hostile input was taken for a good one."""


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        kind: "refused" in one line, "harmless" (what was made of the input is sound), or a failure: "traceback",
            "hung", "memory", "ran code", "taken for good".
        message: of what it raised.
        seconds: it took; megabytes: beside those of everything imported.
    """

    kind: str
    message: str
    seconds: float
    megabytes: float

    @property
    def is_good(self) -> bool:
        return self.kind in ("refused", "harmless")


def run_apart(call: Callable[[], object], folder: Path) -> Outcome:
    """Run a call on the files of a folder, in which it may also write."""
    started, (reading, writing) = time.monotonic(), os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _obey(call, folder, writing)
    os.close(writing)
    told = b""
    while time.monotonic() - started < PATIENCE:
        if select.select([reading], [], [], 0.2)[0]:
            if not (block := os.read(reading, 2**16)):
                break
            told += block
    else:
        os.kill(process, signal.SIGKILL)
    os.close(reading)
    _, status, usage = os.wait4(process, 0)
    kind, message, before = _told(told, status)
    seconds, extra = time.monotonic() - started, usage.ru_maxrss * 1024 - before
    if (folder / MARK).exists():
        kind = "ran code"
    elif kind in ("refused", "harmless") and extra > MEMORY:
        kind = "memory"
    return Outcome(kind, message, seconds, extra / 2**20)


def resident_bytes() -> int:
    """What this process takes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _told(told: bytes, status: int) -> tuple[str, str, int]:
    if told:
        return tuple(json.loads(told))
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGKILL, signal.SIGXCPU):
        return "hung", f"more than {SECONDS} s", 0
    return "traceback", f"ended by signal {number}, status {status}", 0


def _obey(call: Callable[[], object], folder: Path, writing: int) -> None:
    """The whole life of the process that is forked."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY, virtual + MEMORY))
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + SECONDS + 1, int(spent) + SECONDS + 2))
    os.chdir(folder)
    out = os.open(folder.parent / f"{folder.name}.out", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(out, 1), os.dup2(out, 2)
    tried: list[str] = []
    before = resident_bytes()  # Of this process: what its parent has mapped is not all here yet.

    def watch(event: str, arguments: tuple) -> None:
        inside = event == "exec" and str(getattr(arguments[0], "co_filename", "")).startswith(str(folder))
        if event in FORBIDDEN or inside:
            tried.append(f"{event} {str(arguments)[:100]}")

    sys.addaudithook(watch)
    kind, message = "harmless", ""
    try:
        call()
    except Taken as error:
        kind, message = "taken for good", str(error)
    except (ValueError, OSError) as error:
        text = str(error)
        kind, message = ("refused" if text.strip() and "\n" not in text.strip() else "traceback"), repr(error)
    except MemoryError as error:
        kind, message = "memory", repr(error)
    except BaseException as error:
        kind, message = "traceback", repr(error)
    if tried:
        kind, message = "ran code", tried[0]
    try:
        os.write(writing, json.dumps([kind, message[:500], before]).encode())
    finally:
        os._exit(0)
