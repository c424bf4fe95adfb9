"""Files that are either whole or not there: written aside, synced to disk, then renamed."""

import errno
import json
import os
import platform
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

MOST_BYTES = 2**26  # Of a text that is read whole.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What a writer leaves beside its file when it is killed: its machine, where that is known, and its process.
LEFT = re.compile(r"\..+\.(?:([0-9a-f]{8})-)?(\d+)\.part")
SWEPT: set[Path] = set()  # Folders that this process has written into.


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in place; an error, such as the OSError of a full disk, leaves
    the old file untouched."""
    path = Path(path)
    aside = _aside(path)
    try:
        with naming_full_disks(path, aside):
            write(aside)
            _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def naming_full_disks(path: Path, written: Path) -> Iterator[None]:
    """Turn any error of a writer into an OSError of one line about `path`, if no more can be written to where `written`
    lies: the libraries say something else each."""
    try:
        yield
    except Exception as error:
        said = getattr(error, "errno", None) in NO_SPACE or "No space left" in str(error)  # safetensors has no errno.
        if not (said or _is_full(written.parent)):
            raise
        files = [written] if written.is_file() else [file for file in written.rglob("*") if file.is_file()]
        done = sum(file.stat().st_size for file in files) / 2**20
        raise OSError(
            f"no space left for {path}: {done:.1f} MiB of it could be written; free some space, or use another disk"
        ) from error


@contextmanager
def located(where: object) -> Iterator[None]:
    """Let the message of a ValueError, of whatever kind, begin with the place that it is about."""
    try:
        yield
    except ValueError as error:
        error.args = (f"{where}: {error}",)
        raise


def sweep(folder: Path) -> None:
    """Delete what writers that are dead, or on other machines, left below a folder, where no other may write now."""
    for path in list(Path(folder).rglob(".*.part")):
        _delete_left(path, anywhere=True)


def _delete_left(path: Path, anywhere: bool) -> None:
    """Delete what a dead writer of this machine left, or one of any machine."""
    found = LEFT.fullmatch(path.name)
    if not found or not (anywhere or found[1] == _machine()):
        return
    if found[1] in (None, _machine()) and _is_alive(int(found[2])):
        return
    with suppress(OSError):  # Another process sweeps too.
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file atomically; numbers that JSON does not know (NaN, infinity) raise ValueError."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file; a ValueError that names it if it is larger than `most`, or no file."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_char_device():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} has more than {most / 2**20:g} MiB, which no such file of ours has")
    return data


def read_json(path: Path) -> Any:
    """What a JSON file holds; a ValueError that names it if it is not JSON."""
    data = read_whole(path)
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:  # Of numbers with too many digits, and brackets in brackets, too.
        raise ValueError(f"{path} is not valid JSON ({error}); make it again or remove it") from error


def read_keys(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON file; a ValueError that names it if it holds none."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no keys and values; make it again or remove it")
    return data


@contextmanager
def folder_atomically(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place when the block ends without an error."""
    folder = Path(folder)
    aside = _aside(folder)
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # Killed between the two renames below.
        old.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        with naming_full_disks(folder, aside):
            yield aside
            for file in aside.rglob("*"):
                if file.is_file():
                    file.chmod(0o644)
                    _sync(file)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.replace(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt":  # Windows syncs neither folders nor what is open for reading.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(path: Path) -> Path:
    """Where this process writes what is to become `path`; its folder is made, and swept when it is first written to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in SWEPT:
        SWEPT.add(path.parent)
        for left in path.parent.glob(".*.part"):
            _delete_left(left, anywhere=False)
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.part")


@cache
def _machine() -> str:
    """Of this machine, and of this container on it: a number of a process says nothing elsewhere."""
    namespace = ""
    with suppress(OSError):  # Only Linux has it.
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode()):08x}"


def _is_full(folder: Path) -> bool:
    """Whether not even a small file can be written here."""
    probe = _aside(folder / "probe")
    try:
        probe.write_bytes(bytes(2**16))
    except OSError as error:
        return error.errno in NO_SPACE
    finally:
        probe.unlink(missing_ok=True)
    return False


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # There the signal 0 is Ctrl-C.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
