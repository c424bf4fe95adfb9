"""What a result was made with: versions and hardware."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from melody_cm.storage.versions import versions


def describe_machine() -> dict[str, Any]:
    """Versions, system, processors, threads and accelerators, as plain data."""
    import torch

    return {
        "versions": versions(),
        "system": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def git_revision() -> str | None:
    """The commit of the code, with "+changes" where files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
