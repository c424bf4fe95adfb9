"""melody_cm: train, sample and compare two fast text-to-music systems, MeLoDy and MusicCM, side by side."""

__version__ = "0.1.0"

from importlib import import_module
from typing import Any

_LAZY = {
    "Request": "melody_cm.pipelines",
    "generate_files": "melody_cm.pipelines",
}


def __getattr__(name: str) -> Any:
    """The Python API, imported when it is used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
