"""Networks, configurations and finished stages on disk."""

from melody_cm.storage.configuration import build, describe, find_class
from melody_cm.storage.export import load_network, save_network, weight_hash
from melody_cm.storage.files import folder_atomically, read_json, write_atomically, write_json, write_text
from melody_cm.storage.frozen import (
    Frozen,
    FrozenAutoencoder,
    FrozenConditioner,
    FrozenDenoiser,
    FrozenJointEmbedding,
    FrozenTokenizer,
    FrozenTokenLM,
    current_run,
    enter_run,
    stage_folder,
    thaw,
)
from melody_cm.storage.hashing import hash_data, hash_file, hash_weights

__all__ = [
    "Frozen",
    "FrozenAutoencoder",
    "FrozenConditioner",
    "FrozenDenoiser",
    "FrozenJointEmbedding",
    "FrozenTokenLM",
    "FrozenTokenizer",
    "build",
    "current_run",
    "describe",
    "enter_run",
    "find_class",
    "folder_atomically",
    "hash_data",
    "hash_file",
    "hash_weights",
    "load_network",
    "read_json",
    "save_network",
    "stage_folder",
    "thaw",
    "weight_hash",
    "write_atomically",
    "write_json",
    "write_text",
]
