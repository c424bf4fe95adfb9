"""Configurable objects as plain data (`class_path` + `init_args`) and back: the form of recipes and of exports."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from melody_cm.interfaces import Configurable


def describe(value: Any) -> Any:
    """The plain data (JSON types only) from which `build` makes an equal object.

    Raises:
        ValueError: a constructor argument is neither plain data nor Configurable.
    """
    if isinstance(value, Configurable):
        kind = type(value)
        arguments = {name: describe(argument) for name, argument in value.init_arguments.items()}
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"a {type(value).__name__} cannot be written to a configuration file; pass plain values")


def build(config: Any) -> Any:
    """The object that `describe` described; plain data is returned as it is.

    Raises:
        ValueError: a class that does not exist, is no Configurable, or does not take these arguments.
    """
    if isinstance(config, Mapping) and "class_path" in config:
        kind = find_class(config["class_path"])
        arguments = {name: build(value) for name, value in (config.get("init_args") or {}).items()}
        try:
            return kind(**arguments)
        except TypeError as error:
            raise ValueError(f"{config['class_path']} cannot be built from its configuration: {error}") from error
    if isinstance(config, Mapping):
        return {name: build(value) for name, value in config.items()}
    if isinstance(config, list):
        return [build(item) for item in config]
    return config


def find_class(class_path: str) -> type[Configurable]:
    """The Configurable class of that dotted name; nothing else is ever built from a file."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no class {class_path!r}; check the spelling of class_path") from error
    if not (isinstance(found, type) and issubclass(found, Configurable)):
        raise ValueError(f"{class_path!r} is not one of melody_cm's configurable classes and is not built from a file")
    return found
