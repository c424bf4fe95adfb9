"""How a result was made: when, by which command and code, with which versions, on which machine."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch

from melody_cm.storage.versions import versions


def provenance(**facts: Any) -> dict[str, Any]:
    """The metadata of every results file.

    Args:
        facts: what only the caller knows, such as size, run, corpus or seeds; None values are left out.

    Returns:
        `created` (ISO 8601, UTC), `command`, `git_revision`, `machine`, then the facts.
    """
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git_revision": git_revision(),
        "machine": describe_machine(),
        **{name: fact for name, fact in facts.items() if fact is not None},
    }


def describe_machine() -> dict[str, Any]:
    """Versions, system, processors, threads and accelerators, as plain data."""
    return {
        "versions": versions(),
        "system": platform.platform(),
        "processor": processor(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def processor() -> str:
    """The model of the processor, as its vendor calls it."""
    facts = Path("/proc/cpuinfo")  # Of Linux; elsewhere Python knows something.
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def git_revision() -> str | None:
    """The commit of the code, with "+changes" where files differ from it; None outside a git checkout."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        changes = git(["git", "status", "--porcelain"]).stdout.strip()
        return git(["git", "rev-parse", "HEAD"]).stdout.strip() + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
