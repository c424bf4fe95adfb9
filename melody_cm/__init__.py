"""melody_cm: train, sample and benchmark two fast text-to-music systems, MeLoDy and MusicCM, side by side."""

import importlib
from typing import Any

__version__ = "0.1.0"

PUBLIC = {
    "check_corpus": "melody_cm.data:check_corpus",
    "find_duplicates": "melody_cm.data:find_duplicates",
    "import_corpus": "melody_cm.data:import_corpus",
    "render_manifest": "melody_cm.data:render_manifest",
    "split_manifest": "melody_cm.data:split_manifest",
    "write_corpus": "melody_cm.data:write_corpus",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'melody_cm' has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
