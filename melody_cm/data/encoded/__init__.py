"""What frozen encoders make of a corpus, computed once (specs of the files: docs/data.md, "Encoding once").

`writing` and `processes` fill it and build data modules themselves: they are imported where they are used.
"""

from melody_cm.data.encoded.cache import EncodedClips, EncodedOutput
from melody_cm.data.encoded.dataset import EncodedDataset
from melody_cm.data.encoded.finding import cache_folder, find_encoded
from melody_cm.data.encoded.outputs import FrozenOutput, frozen_outputs

__all__ = [
    "EncodedClips",
    "EncodedDataset",
    "EncodedOutput",
    "FrozenOutput",
    "cache_folder",
    "find_encoded",
    "frozen_outputs",
]
