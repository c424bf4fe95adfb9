"""Locks between processes, and that nothing needs what only POSIX has."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from melody_cm.storage import is_locked, locked

PACKAGE = Path(__file__).resolve().parents[2] / "melody_cm"
OF_POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}
HOLD = """
import sys
from pathlib import Path
from melody_cm.storage.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
sys.modules |= dict.fromkeys(["fcntl", "resource"])
del signal.SIGUSR1, os.getuid, os.sched_getaffinity
import melody_cm
for found in pkgutil.walk_packages(melody_cm.__path__, "melody_cm."):
    if not found.name.endswith("_triton"):  # Of a GPU alone.
        importlib.import_module(found.name)
"""


def test_another_process_is_told_or_waits_and_no_file_stays(tmp_path):
    path = tmp_path / "new" / ".lock"
    assert not is_locked(path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert is_locked(path)
    with pytest.raises(ValueError, match="another works here"), locked(path, "another works here"):
        pass
    assert is_locked(path), "a refused process must not take the lock away"
    holder.kill()
    holder.communicate()
    assert not is_locked(path)
    with locked(path), pytest.raises(ValueError, match="taken"), locked(path, "taken"):
        pass
    assert not list(path.parent.iterdir())


def test_no_module_needs_a_module_that_only_posix_has():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not OF_POSIX & {str(name).partition(".")[0] for name in names}, file


@pytest.mark.slow
def test_every_module_is_imported_without_what_only_posix_has():
    subprocess.run([sys.executable, "-c", WITHOUT_POSIX], check=True, timeout=250)
