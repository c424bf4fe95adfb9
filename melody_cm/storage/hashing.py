"""Content hashes: of weights, of files, of plain data; what a stage was made from is told by these."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def hash_data(data: Any) -> str:
    """16 hex digits of plain data, independent of key order."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """16 hex digits of a file's content."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def hash_weights(network: nn.Module) -> str:
    """16 hex digits of a network's parameters and buffers: names, types, shapes and values."""
    return hash_tensors(network.state_dict())


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits of named tensors, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
