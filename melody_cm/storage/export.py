"""Networks on disk: `config.json` (class and constructor arguments) beside `model.safetensors`; no pickles.

Parts that are diffusers' own (a U-Net, a VAE) lie in subfolders named as they are inside the network, in diffusers'
layout, so that its `from_pretrained` opens them; no weight is stored twice.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from melody_cm.interfaces import Network
from melody_cm.storage.build import DIFFUSERS_WEIGHTS, as_read
from melody_cm.storage.description import STAGE, class_path, describe
from melody_cm.storage.files import folder_atomically, read_keys, write_json
from melody_cm.storage.hashing import hash_tensors


def save_network(network: Network, folder: Path, portable: bool = False, half: bool = False) -> None:
    """Write a network to a folder, replacing what is there only when all of it is on disk.

    A `portable` one leaves out (as null) the frozen networks that are arguments of this one, which exist only inside a
    run, and notes the stages that they and this one came from. With `half`, matrices and kernels are stored in fp16,
    which halves the files (a ValueError for a weight that it cannot hold); what is read are fp32 numbers again.
    """
    arguments = {name: describe(value) for name, value in network.init_arguments.items()}
    notes = {}
    if portable:
        parts = {name: value for name, value in network.init_arguments.items() if isinstance(value, Network)}
        frozen = {name: part for name, part in parts.items() if part.frozen}
        arguments |= dict.fromkeys(frozen)
        from_stages = {name: stage for name, part in frozen.items() for stage in _stages_of(part).values()}
        notes = {"made_by": _stages_of(network), "left_out": {**network.left_out, **from_stages}}
    with folder_atomically(Path(folder)) as aside:
        weights = _stored(network, half)
        known = hash_tensors(as_read(weights))
        for name, part in _diffusers_parts(network):
            _save_part(network, name, part, weights, aside)
        save_file(weights, aside / "model.safetensors")
        config = {"class_path": class_path(type(network)), "init_args": arguments, "weights": known}
        write_json(aside / "config.json", config | notes)


def weight_hash(folder: Path) -> str:
    """The weight hash written when the network was saved."""
    return read_keys(Path(folder) / "config.json")["weights"]


def _stored(network: Network, half: bool) -> dict[str, Tensor]:
    """The weights as they are written: fp32, whatever the network computes in; matrices in fp16 if asked for."""
    matrices = {name for name, value in network.named_parameters() if value.ndim > 1 and half}
    stored = {}
    for name, value in network.state_dict().items():
        whole = value.detach().cpu().contiguous().clone()
        stored[name] = whole.float() if whole.dtype in (torch.float16, torch.bfloat16) else whole
        if name in matrices:
            stored[name] = whole.half()
            if not bool(stored[name].isfinite().all()):
                raise ValueError(f"{name} holds numbers beyond the 65504 of fp16; export without half")
    return stored


def _stages_of(network: Network) -> dict[str, str]:
    """The stage of a network, under "", and those of its parts, if stages made them."""
    origin = network.origin
    parts = origin.get("init_args") or {} if isinstance(origin, Mapping) else {"": origin}
    stages = {name: str(each).removeprefix(STAGE) for name, each in parts.items() if str(each).startswith(STAGE)}
    return {name if hasattr(network, name) else "": stage for name, stage in stages.items()} or dict(network.made_by)


def _diffusers_parts(network: Network) -> Iterator[tuple[str, Any]]:
    """The outermost parts that know diffusers' layout, by their dotted names; frozen networks save their own."""
    own, last = network.state_dict().keys(), "."
    for name, part in network.named_modules():
        inside = name.startswith(f"{last}.")
        if name and not inside and hasattr(part, "save_config") and any(key.startswith(f"{name}.") for key in own):
            yield name, part
            last = name


def _save_part(network: Network, name: str, part: Any, weights: dict[str, Tensor], aside: Path) -> None:
    """Move a part's weights from `weights` to a folder of its own, with its configuration."""
    folder = aside.joinpath(*name.split("."))
    owner = network.get_submodule(name.rpartition(".")[0])
    if hasattr(owner, "diffusers_settings"):
        part.register_to_config(**owner.diffusers_settings())
    part.save_config(folder)
    own = {key.removeprefix(f"{name}."): weights.pop(key) for key in list(weights) if key.startswith(f"{name}.")}
    save_file(own, folder / DIFFUSERS_WEIGHTS, metadata={"format": "pt"})
