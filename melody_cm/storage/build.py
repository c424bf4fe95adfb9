"""Plain data to objects: the one way from YAML and JSON to networks, schedules, corpora, callbacks and the rest."""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from melody_cm.interfaces import Network
from melody_cm.storage.description import (
    STAGE,
    annotations,
    checked,
    classes_in,
    fields_of,
    find_class,
    made_by,
    parameters,
    refuse_foreign,
    required,
)
from melody_cm.storage.files import located, read_keys
from melody_cm.storage.hashing import hash_tensors
from melody_cm.storage.pretrained import offline
from melody_cm.storage.stages import stage_folder

STAGE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)+")
LARGEST = 2**20  # Of the numbers in an export that may come from anywhere.
_being_read: list[Path] = []  # Folders whose networks are being built, innermost last.
# What fills a tensor with random numbers in place. Functions of `nn.init` that a mode does not see call these.
RANDOM_FILLS = {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


def build(config: Any, kind: Any = None, *also: type) -> Any:
    """The object that plain data describes; other plain data is returned as it is.

    Args:
        config: `class_path` + `init_args`, where `class_path` may name a function that makes the object;
            `stage:system/stage` for a network of a finished stage; keys and values of a dataclass; or a list of these.
        kind: the type of the place that it is for.
        also: base classes that are allowed beside `Configurable`.

    Raises:
        FileNotFoundError: a stage is not finished.
        ValueError: a class that does not exist, is not allowed, or does not take these arguments.
    """
    if isinstance(config, str) and config.startswith(STAGE):
        return _stage_sources[-1](config.removeprefix(STAGE), kind)
    if isinstance(config, Mapping) and "class_path" in config:
        target = find_class(config["class_path"], *also)
        kinds = classes_in(kind)
        if isinstance(target, type) and kinds and not issubclass(target, kinds):
            raise ValueError(f"a {target.__name__} is no {' or '.join(each.__name__ for each in kinds)}")
        return _call(target, config.get("init_args") or {}, also)
    if isinstance(config, Mapping):
        fields = fields_of(kind)
        if fields is not None:
            return _call(fields, config, also)
        return {name: build(value, kind, *also) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [build(item, kind, *also) for item in config]
    return config


def load_network(folder: Path, own: bool = False) -> Network:
    """Rebuild a network in evaluation mode from a folder written by `save_network`, which may come from anywhere.

    A stage of the current run is one's `own`: its recipes are programs of the user, so their modules are imported, and
    the model hub may be asked. Else only what `refuse_foreign` lets through is built, and offline. A FileNotFoundError
    if the folder holds no exported network, a ValueError if its parts do not fit each other.
    """
    folder = Path(folder)
    config = _read_config(folder)
    described = {"class_path": config["class_path"], "init_args": config["init_args"]}
    weights = read_weights(folder)
    with ThreadPoolExecutor(1) as worker:
        known = worker.submit(hash_tensors, weights)  # Meanwhile the network is built.
        network = _filled(folder, described, weights, own)
    if known.result() != config["weights"]:
        raise ValueError(f"{folder / 'model.safetensors'} is not what config.json describes; export it again")
    network.made_by, network.left_out = (_stages(config.get(name)) for name in ("made_by", "left_out"))
    return network.eval()


def _filled(folder: Path, described: dict[str, Any], weights: Mapping[str, Tensor], own: bool) -> Network:
    """The network that `described` says, with the weights of its folder."""
    if own:
        # Its weights have values even inside a network without. First values are drawn here, though for nothing: those
        # of the network that is trained beside it come from the same random numbers.
        with _reading(folder), torch.device("cpu"):
            network = build(described)
    else:
        refuse_foreign(described, folder / "config.json")
        _refuse_large(described["init_args"], folder / "config.json")
        with _reading(folder), offline(folder / "config.json"), _no_more_tensors_than(len(weights), folder):
            with torch.device("meta"):  # Takes no memory, whatever the sizes.
                check_weights(build(described), weights, str(folder))
            with _NoFirstValues():
                network = build(described)
    if not isinstance(network, Network):
        raise ValueError(f"{folder / 'config.json'} describes no network but a {type(network).__name__}")
    check_weights(network, weights, str(folder))
    own_types = {name: value.dtype for name, value in network.state_dict().items()}
    for name, value in weights.items():
        if value.dtype != own_types[name]:
            raise ValueError(f"{folder}: {name} is {value.dtype}, not the {own_types[name]} of the network")
        if not _all_finite(value):
            raise ValueError(f"{folder}: {name} holds numbers that are not finite; export it again")
    network.load_state_dict(weights, strict=False)  # The weights of frozen parts come from their own stages.
    return network


def _all_finite(value: Tensor) -> bool:
    # A NaN is the least and the largest of all; to look at every number by itself takes thirty times as long.
    ends = value.aminmax() if value.is_floating_point() and value.numel() else [value]
    return all(bool(each.isfinite().all()) for each in ends)


class _NoFirstValues(TorchFunctionMode):
    """Modules that are built in here draw no random first values for weights that a file has."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in RANDOM_FILLS and named.get("generator") is None:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def assemble(kind: Any, arguments: Mapping[str, Any], parts: Mapping[str, Network]) -> Any:
    """An object from the plain data of some of its arguments and the networks of others. A ValueError if one is not of
    the kind that its place takes, is not known, or is missing."""
    return _call(kind, {**arguments, **parts}, ())


def check_export(folder: Path) -> None:
    """Refuse an exported network whose files are not what was written: FileNotFoundError, ValueError."""
    config = _read_config(folder)
    if hash_tensors(read_weights(folder)) != config["weights"]:
        raise ValueError(f"{folder / 'model.safetensors'} is not what config.json describes; export it again")


def load_stage(stage: str, kind: Any = None) -> Network:
    """The network of a finished stage ("system/stage") of the current run that is of a kind: the real class, frozen.

    The kind, an interface such as `Denoiser`, is needed where the stage exports several networks. A FileNotFoundError
    if the stage is not finished, a ValueError if it exports no network of that kind, or several.
    """
    exports = sorted(path.parent for path in (stage_folder(stage) / "export").glob("*/config.json"))
    kinds = classes_in(kind) or (Network,)
    fitting = [folder for folder in exports if issubclass(_class_of(folder), kinds)]
    if len(fitting) != 1:
        made = ", ".join(f"{folder.name} ({_class_of(folder).__name__})" for folder in exports)
        wanted = " or ".join(each.__name__ for each in kinds)
        raise ValueError(f"stage {stage} exports {made}: {len(fitting)} of them are a {wanted}, but one is needed")
    return load_network(fitting[0], own=True).freeze(stage, f"{STAGE}{stage}")


_stage_sources: list[Callable[[str, Any], Network]] = [load_stage]


@contextmanager
def stages_from(source: Callable[[str, Any], Network]) -> Iterator[None]:
    """In here `build` asks `source` for the networks of stages, by name and kind, instead of the current run."""
    _stage_sources.append(source)
    try:
        yield
    finally:
        _stage_sources.pop()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put `weights` into a network whose names and shapes they must match exactly; errors as of `check_weights`."""
    check_weights(network, weights, source)
    network.load_state_dict(weights, strict=False)  # The weights of frozen parts come from their own stages.


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of other names or shapes than a network's by a ValueError that names `source` and the first."""
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


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of an exported network by their names in it, put together from its own file and those of its parts; a
    ValueError if a file is damaged."""
    weights: dict[str, Tensor] = {}
    for file in [folder / "model.safetensors", *sorted(folder.rglob(DIFFUSERS_WEIGHTS))]:
        prefix = "".join(f"{part}." for part in file.relative_to(folder).parts[:-1])
        try:
            weights |= {f"{prefix}{name}": value for name, value in load_file(file).items()}
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error}); export it again") from error
    return as_read(weights)


def as_read(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights as networks take them: fp16, which only saves space on disk, becomes fp32."""
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in weights.items()}


def _read_config(folder: Path) -> dict[str, Any]:
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no exported network: {name} is missing")
    config = read_keys(folder / "config.json")
    if not {"class_path", "init_args", "weights"} <= config.keys():
        raise ValueError(f"{folder / 'config.json'} does not describe a network; export it again")
    return config


def _stages(given: Any) -> dict[str, str]:
    """The stages that a file names, whatever else it holds: a name that leads out of a run is none."""
    items = given.items() if isinstance(given, Mapping) else ()
    return {key: name for key, name in items if isinstance(name, str) and STAGE_NAME.fullmatch(name)}


def _refuse_large(arguments: Any, file: Path) -> None:
    """Refuse arguments with which a description from anywhere would take all memory. What a part describes in its own
    form (transformers', a tokenizer's) holds other numbers; a maximum (`max_tokens`) takes no memory."""
    for key, value in arguments.items() if isinstance(arguments, Mapping) else ():
        if isinstance(value, Mapping) and "class_path" in value:
            _refuse_large(value.get("init_args"), file)
        elif isinstance(value, int | float) and not abs(value) <= LARGEST and not key.startswith("max_"):
            raise ValueError(f"{file}: {key} {value!r} is no size of a network; the largest number is {LARGEST}")


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Marks the folder whose network is being built: a network may be made of stages that lie elsewhere."""
    _being_read.append(folder)
    try:
        yield
    finally:
        _being_read.pop()


@contextmanager
def _no_more_tensors_than(count: int, folder: Path) -> Iterator[None]:
    """Stop the building of a network that has far more parameters than there are weights for."""
    left = 3 * count + 1000  # Some are registered again when they are parametrized.

    def counted(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= _being_read[-1] == folder
        if left < 0:
            raise ValueError(f"{folder} describes a larger network than it holds weights for ({count} tensors)")

    handle = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()


def _class_of(folder: Path) -> type:
    return made_by(find_class(read_keys(folder / "config.json")["class_path"])) or Network


def _call(target: Any, arguments: Mapping[str, Any], also: tuple[type, ...]) -> Any:
    name, hints, known = target.__qualname__, annotations(target), list(parameters(target))
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the init_args of {name} are {arguments!r}; give keys and values")
    # In the order of the signature, so that random first weights do not depend on the order of a file.
    ordered = sorted(arguments, key=lambda key: known.index(key) if key in known else len(known))
    built = {}
    for key in ordered:
        built[key] = build(arguments[key], hints.get(key), *also)
        with located(f"{name}: {key}"):
            built[key] = checked(built[key], hints.get(key, Any))
    if missing := [key for key in required(target) if key not in built]:
        raise ValueError(f"{name} cannot be built from its configuration: it lacks {', '.join(missing)}")
    try:
        return target(**built)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from its configuration: {error}") from error
