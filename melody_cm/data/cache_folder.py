"""The one folder outside a run where things are kept that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where rendered music, hashes and statistics are kept: $MELODY_CM_CACHE, or ~/.cache/melody_cm."""
    return Path(os.environ.get("MELODY_CM_CACHE") or "~/.cache/melody_cm").expanduser()
