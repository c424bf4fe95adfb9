"""Objects as plain data, `class_path` + `init_args`: the form of recipes, presets and exports."""

import dataclasses
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from melody_cm.interfaces import Configurable, Network
from melody_cm.storage.files import located

STAGE = "stage:"  # "stage:melody/5_audio_vae_gan" stands for what that finished stage exports.
OURS = "melody_cm"
_trusted: set[str] = set()
PLAIN = str | int | float | bool | tuple | list | dict | None


def describe(value: Any) -> Any:
    """The plain data (JSON types only) from which `build` makes an equal object; a ValueError if an argument is neither
    plain data nor Configurable."""
    if isinstance(value, Network) and value.frozen:
        return value.origin
    if isinstance(value, Configurable):
        arguments = {name: describe(argument) for name, argument in value.init_arguments.items()}
        return {"class_path": class_path(type(value)), "init_args": arguments}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"a {type(value).__name__} cannot be written to a configuration file; pass plain values")


def class_path(target: Any) -> str:
    """The dotted name of a class or function: that of its room where the room offers it, which outlives moved files."""
    room = ".".join(target.__module__.split(".")[:2])
    offered = getattr(sys.modules.get(room), target.__name__, None) is target
    return f"{room if offered else target.__module__}.{target.__qualname__}"


def find_class(path: Any, *also: type) -> Any:
    """The class, or the function that makes one, of a dotted name: a `Configurable` or of a base in `also`, for nothing
    else is ever built from a file; else a ValueError."""
    module, _, name = str(path).rpartition(".")
    try:
        room = importlib.import_module(module)
        found = getattr(room, name, None)
    except ValueError:  # No dot at all.
        found = None
    except Exception as error:  # The module's own code, or what it imports, may raise anything.
        if not (isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")):
            raise ValueError(f"{path!r}: importing {module} fails: {type(error).__name__}: {error}") from error
        found = None
    if found is None:
        raise ValueError(f"there is no class {path!r}; check the spelling of class_path")
    made = made_by(found)
    if made is None or not issubclass(made, (Configurable, *also)):
        raise ValueError(f"{path!r} is not one of melody_cm's configurable classes and is not built from a file")
    return found


def trust_module(name: str) -> None:
    """Let exported networks and systems name classes of a module, and of those inside it, from now on."""
    _trusted.add(name)


def refuse_foreign(config: Any, file: Any) -> None:
    """Refuse with a ValueError the configuration of an export, which may come from anywhere, if building it would
    import a module that is neither melody_cm's, nor imported already, nor trusted: importing runs its code. Nor may it
    call a function or name a stage: some read further files, whose modules they import."""
    if isinstance(config, str) and config.startswith(STAGE):
        raise ValueError(f"{file} wants {config}, but an export holds its own networks; export it again")
    if isinstance(config, Mapping):
        if "class_path" in config:
            _refuse_foreign_class(config["class_path"], file)
        for value in config.values():
            refuse_foreign(value, file)
    elif isinstance(config, list):
        for value in config:
            refuse_foreign(value, file)


def _refuse_foreign_class(path: Any, file: Any) -> None:
    if not isinstance(path, str):
        raise ValueError(f"{file}: class_path is {path!r}, no name of a class; this is no export of melody_cm")
    module = path.rpartition(".")[0]
    parents = [module[:end] for end, letter in enumerate(f"{module}.") if letter == "."]
    if module.split(".")[0] != OURS and module not in sys.modules and not _trusted.intersection(parents):
        raise ValueError(
            f"{file} names {path}, whose module is neither melody_cm's nor imported: it could run any code. If you "
            f"trust it, import {module} first, or say --trust-module {module}"
        )
    with located(file):
        found = find_class(path)
    if not isinstance(found, type):
        raise ValueError(f"{file} names {path}, which is no class; only a recipe may call functions")


def made_by(target: Any) -> type | None:
    """The class of what calling a class or a factory function gives; None where that is not said."""
    if isinstance(target, types.FunctionType):
        target = annotations(target).get("return")
    return target if isinstance(target, type) else None


def classes_in(annotation: Any) -> tuple[type, ...]:
    """The classes that a value, or each value in a list of them, may be: (Denoiser,) of `Denoiser | None`."""
    if isinstance(annotation, type) and not typing.get_origin(annotation):
        return () if annotation is type(None) else (annotation,)
    return tuple(found for part in typing.get_args(annotation) for found in classes_in(part))


@functools.cache
def annotations(target: Any) -> dict[str, Any]:
    """The types of the arguments of a class or function by name, and "return"; empty where they cannot be told."""
    try:
        return typing.get_type_hints(target.__init__ if isinstance(target, type) else target)
    except (NameError, TypeError):
        return {}


@functools.cache
def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """The arguments of a class or function by name."""
    return dict(inspect.signature(target).parameters)


def required(target: Any) -> list[str]:
    """The arguments of a class or function that have no default."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name for name, each in parameters(target).items() if each.default is each.empty and each.kind not in variadic
    ]


def fields_of(annotation: Any) -> type | None:
    """The dataclass that plain keys and values stand for in a place of this type, if there is one."""
    return next((kind for kind in classes_in(annotation) if dataclasses.is_dataclass(kind)), None)


def checked(value: Any, annotation: Any) -> Any:
    """Plain data as the type that it is annotated with: a list as a tuple, a whole number as a float; else a ValueError
    that says what is expected."""
    adapter = _adapter(annotation)
    if adapter is None:
        return value
    try:
        found = adapter.validate_python(value)
    except ValidationError as error:
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
        raise ValueError(f"{shown} is no valid value: {_reasons(error)}") from error
    return found if isinstance(found, PLAIN) else value


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter | None:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # pydantic raises many kinds for types that it does not know, such as those of jaxtyping.
        return None


def _reasons(error: ValidationError) -> str:
    """What was expected; of a union each alternative once."""
    found = dict.fromkeys(each["msg"].removeprefix("Input should be ") for each in error.errors(include_url=False))
    return "it should be " + ", or ".join(list(found)[:6])
