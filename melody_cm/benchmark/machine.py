"""What a result was made with: versions and hardware."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("melody_cm", "torch", "lightning", "transformers", "diffusers", "librosa", "soundfile", "numpy")


def versions() -> dict[str, str | None]:
    """The installed version of Python and of the packages that shape results; None where one is missing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


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
