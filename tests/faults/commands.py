"""Runs `melody-cm` in processes of their own that are forked, so that each begins with everything imported."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from melody_cm.cli.main import main


class Done(NamedTuple):
    """How a command ended: its exit code (minus the signal that killed it), what it printed, how long it took."""

    code: int
    said: str
    seconds: float

    @property
    def is_one_line(self) -> bool:
        """Whether it ended with a message that it foresaw."""
        last = self.said.strip().splitlines()[-1:]
        unforeseen = "Traceback" in self.said or "--debug shows the traceback" in self.said
        return self.code == 2 and not unforeseen and bool(last) and last[0].startswith("melody-cm: ")

    @property
    def message(self) -> str:
        """The last line."""
        return (self.said.strip().splitlines() or [""])[-1]


class Command:
    """A command that runs.

    Args:
        words: after `melody-cm`; folder: in which it runs; log: of what it prints.
    """

    def __init__(self, words: Sequence[object], folder: Path, log: Path) -> None:
        self.log, self.started = log, time.monotonic()
        sys.stdout.flush(), sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            _obey([str(word) for word in words], folder, log)

    def kill(self, number: int) -> None:
        """Send a signal, if it still runs."""
        os.kill(self.process, number)

    def wait(self, seconds: float = 300.0) -> Done:
        """The end of it; it is killed after so long."""
        while True:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                break
            if time.monotonic() - self.started > seconds:
                os.kill(self.process, signal.SIGKILL)
            time.sleep(0.02)
        return Done(os.waitstatus_to_exitcode(status), self.log.read_text(errors="replace"), self.seconds)

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        return time.monotonic() - self.started


def run(words: Sequence[object], folder: Path, seconds: float = 300.0) -> Done:
    """Run a command to its end."""
    return Command(words, folder, folder / "said.txt").wait(seconds)


def _obey(words: list[str], folder: Path, log: Path) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(words)
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
