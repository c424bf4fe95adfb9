"""Networks, configurations and finished stages on disk."""

from melody_cm.storage.build import assemble, build, check_export, load_network, load_stage, load_weights, stages_from
from melody_cm.storage.description import describe, find_class, refuse_foreign, trust_module
from melody_cm.storage.export import save_network, weight_hash
from melody_cm.storage.files import (
    folder_atomically,
    located,
    naming_full_disks,
    read_json,
    read_keys,
    read_whole,
    sweep,
    write_atomically,
    write_json,
    write_text,
)
from melody_cm.storage.hashing import hash_data, hash_file, hash_tensors, hash_weights
from melody_cm.storage.locks import is_locked, locked
from melody_cm.storage.pretrained import load_part, load_tokenizer, offline, public_stage, read_scheduler
from melody_cm.storage.stages import current_run, enter_run, stage_folder
