"""Every key and value of a configuration against the constructors that will be called, before any work is done."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from melody_cm.configuration.tree import Config, Keys
from melody_cm.interfaces import FeatureNetwork, Network
from melody_cm.storage.build import build
from melody_cm.storage.description import (
    STAGE,
    annotations,
    checked,
    classes_in,
    fields_of,
    find_class,
    made_by,
    parameters,
    required,
)
from melody_cm.storage.files import located

Named = Callable[[Keys], str]


def check_slot(value: Any, kind: Any, at: Keys, named: Named, also: tuple[type, ...] = ()) -> None:
    """Check the value of one place: a class with its arguments, a stage, a list of such, or plain data.

    `kind` is the type of the place, `at` its keys, `named` how a place is called for people; base classes in `also` are
    allowed beside `Configurable`. A ValueError for an unknown key, or a value or class of the wrong kind, names file,
    key and what fits.
    """
    if isinstance(value, str) and value.startswith(STAGE):
        if not any(issubclass(each, Network | FeatureNetwork) for each in classes_in(kind)):
            raise ValueError(f"{named(at)}: {value!r} names a stage, but this is no place for a network")
    elif isinstance(value, Mapping) and "class_path" in value:
        _check_object(value, kind, at, named, also)
    elif isinstance(value, Mapping) and fields_of(kind) is not None:
        check_arguments(value, fields_of(kind), at, named, also)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            check_slot(item, kind, (*at, str(index)), named, also)
    elif kind is not None:
        with located(named(at)):
            checked(value, kind)


def check_arguments(
    arguments: Any, target: Any, at: Keys, named: Named, also: tuple[type, ...] = (), linked: Iterable[str] = ()
) -> None:
    """Check the arguments of a class or function as `check_slot` does; a needed one that is missing is an error too.

    Args:
        linked: arguments that are filled in later.
    """
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{named(at)}: expected keys and values, got {arguments!r}")
    known, hints = parameters(target), annotations(target)
    for key, value in arguments.items():
        refuse_unknown(named((*at, key)), key, list(known))
        check_slot(value, hints.get(key), (*at, key), named, also)
    if missing := [key for key in required(target) if key not in arguments and key not in linked]:
        raise ValueError(f"{named(at)}: {target.__name__} needs {', '.join(missing)}")


def refuse_unknown(place: str, key: str, known: Sequence[str]) -> None:
    """Refuse a key that is not known with a ValueError: the place and the nearest valid key in one line."""
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
        hint = f"the nearest valid key is {near[0]!r}" if near else "this takes no arguments"
        raise ValueError(f"{place}: unknown key; {hint}")


def open_slot(source: Any, kind: type) -> Any:
    """The object of a preset (a YAML file, or its content with `class_path` and `init_args`): read, checked and built.
    A FileNotFoundError or ValueError if it cannot be read, is not of that kind, or does not take these arguments."""
    config = Config()
    if isinstance(source, Mapping):
        config.tree = dict(source)
    else:
        config.merge(Path(source))
    if "class_path" not in config.tree:
        raise ValueError(f"{config.named(())} describes no {kind.__name__}; it needs class_path and init_args of one")
    check_slot(config.tree, kind, (), config.named)
    return build(config.tree, kind)


def _check_object(value: Mapping[str, Any], kind: Any, at: Keys, named: Named, also: tuple[type, ...]) -> None:
    for key in value:
        refuse_unknown(named((*at, key)), key, ("class_path", "init_args"))
    with located(named((*at, "class_path"))):
        target = find_class(value["class_path"], *also)
    made, kinds = made_by(target), classes_in(kind)
    if kinds and made is not None and not issubclass(made, kinds):
        wanted = " or ".join(each.__name__ for each in kinds)
        raise ValueError(f"{named(at)}: {value['class_path']} is no {wanted}, which this place takes")
    linked = ("sample_rate", "seed") if at == ("model",) else ()
    check_arguments(value.get("init_args") or {}, target, (*at, "init_args"), named, also, linked)
