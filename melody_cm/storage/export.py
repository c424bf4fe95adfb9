"""Networks on disk: `config.json` (class and constructor arguments) beside `model.safetensors`; no pickles.

Parts that are diffusers' own (a U-Net, a VAE) lie in subfolders named as they are inside the network, in diffusers'
layout, so that its `from_pretrained` opens them; no weight is stored twice.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from melody_cm.interfaces import Network
from melody_cm.storage.configuration import build, describe
from melody_cm.storage.files import folder_atomically, read_json, write_json
from melody_cm.storage.frozen import Frozen
from melody_cm.storage.hashing import hash_weights

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_network(network: Network, folder: Path, portable: bool = False) -> None:
    """Write a network to a folder, replacing what is there only when all of it is on disk.

    Args:
        portable: leave out (as null) the frozen stages that the network refers to, which exist only inside a run.
    """
    config = describe(network)
    if portable:
        config = _without_frozen(config, network)
    with folder_atomically(Path(folder)) as aside:
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
        for name, part in _diffusers_parts(network):
            _save_part(network, name, part, weights, aside)
        save_file(weights, aside / "model.safetensors")
        write_json(aside / "config.json", {**config, "weights": hash_weights(network)})


def load_network(folder: Path) -> Network:
    """Rebuild a network in evaluation mode from a folder written by `save_network`.

    Raises:
        FileNotFoundError: the folder holds no exported network.
        ValueError: its parts do not fit each other.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no exported network: {name} is missing")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or not {"class_path", "init_args", "weights"} <= config.keys():
        raise ValueError(f"{folder / 'config.json'} does not describe a network; export it again")
    network = build({"class_path": config["class_path"], "init_args": config["init_args"]})
    load_weights(network, _read_weights(folder), str(folder))
    if hash_weights(network) != config["weights"]:
        raise ValueError(f"{folder / 'model.safetensors'} is not what config.json describes; export it again")
    return network.eval()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put `weights` into a network whose names and shapes they must match exactly.

    Raises:
        ValueError: names or shapes differ; the message names `source` and the first difference.
    """
    own = network.state_dict()
    if difference := sorted(set(own) ^ set(weights)):
        where = "missing from" if difference[0] in own else "not known to the network but in"
        raise ValueError(
            f"{source} holds another network: {difference[0]} is {where} it ({len(difference)} such names)"
        )
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"{source} holds another network: {name} is {tuple(value.shape)}, expected {tuple(own[name].shape)}"
            )
    network.load_state_dict(weights, strict=False)  # The weights of frozen parts come from their own stages.


def weight_hash(folder: Path) -> str:
    """The weight hash written when the network was saved."""
    return read_json(Path(folder) / "config.json")["weights"]


def _diffusers_parts(network: Network) -> Iterator[tuple[str, Any]]:
    """The outermost parts that know diffusers' layout, by their dotted names; frozen stages save their own."""
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


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a network by their names in it, put together from its own file and those of its parts."""
    weights: dict[str, Tensor] = {}
    for file in [folder / "model.safetensors", *sorted(folder.rglob(DIFFUSERS_WEIGHTS))]:
        prefix = "".join(f"{part}." for part in file.relative_to(folder).parts[:-1])
        try:
            weights |= {f"{prefix}{name}": value for name, value in load_file(file).items()}
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error}); export it again") from error
    return weights


def _without_frozen(config: dict[str, Any], network: Network) -> dict[str, Any]:
    arguments = {
        name: None if isinstance(network.init_arguments[name], Frozen) else value
        for name, value in config["init_args"].items()
    }
    return {**config, "init_args": arguments}
