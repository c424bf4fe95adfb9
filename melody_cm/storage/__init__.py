"""Networks, configurations and finished stages on disk."""

from melody_cm.storage.configuration import build, describe, find_class
from melody_cm.storage.export import load_network, save_network, weight_hash
from melody_cm.storage.files import folder_atomically, read_json, write_atomically, write_json, write_text
from melody_cm.storage.frozen import (
    Frozen,
    FrozenAutoencoder,
    FrozenCodec,
    FrozenConditioner,
    FrozenDenoiser,
    FrozenJointEmbedding,
    FrozenSemanticEncoder,
    FrozenTokenizer,
    FrozenTokenLM,
    FrozenVocoder,
    current_run,
    enter_run,
    stage_folder,
    thaw,
)
from melody_cm.storage.hashing import hash_data, hash_file, hash_weights
from melody_cm.storage.public import Public, load_part, load_tokenizer, read_scheduler

__all__ = [
    "Frozen",
    "FrozenAutoencoder",
    "FrozenCodec",
    "FrozenConditioner",
    "FrozenDenoiser",
    "FrozenJointEmbedding",
    "FrozenSemanticEncoder",
    "FrozenTokenLM",
    "FrozenTokenizer",
    "FrozenVocoder",
    "Public",
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
    "load_part",
    "load_tokenizer",
    "read_json",
    "read_scheduler",
    "save_network",
    "stage_folder",
    "thaw",
    "weight_hash",
    "write_atomically",
    "write_json",
    "write_text",
]
