"""The versions of what shapes results."""

import platform
from importlib.metadata import PackageNotFoundError, version

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
