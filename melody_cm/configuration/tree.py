"""One configuration out of several files: presets put in, overlays merged, values set, links resolved.

A value that ends in `.yaml` is a preset and is replaced by that file's content. An overlay merges key by key; a preset
or another `class_path` replaces a slot as a whole, so no argument of the old class stays. A value `${data.sample_rate}`
is a link: the value of that key when all else is done.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from melody_cm.configuration.yaml_file import find_file, parse_yaml, read_yaml

Keys = tuple[str, ...]
LINK = re.compile(r"\$\{([\w.]+)\}")
COMMAND_LINE = "command line"


class Config:
    """A tree of keys and values that remembers where each came from.

    Attributes:
        tree: the keys and values so far.
        origins: the file, or "command line", that set each key.
    """

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.origins: dict[Keys, str] = {}

    def merge(self, file: Path, overlay: Mapping[str, Any] | None = None) -> None:
        """Put the keys of a file, or of an overlay in it, over those that are there."""
        _merge(self.tree, self._with_presets(dict(read_yaml(file) if overlay is None else overlay), Path(file), ()))

    def set(self, key: str, value: Any, origin: Path | str = COMMAND_LINE) -> None:
        """Set one value by its dotted key, in which `init_args` may be left out; a preset's path puts it in."""
        at = self.place(key)
        node = self.tree
        for depth, part in enumerate(at[:-1]):
            if part not in node or (node[part] is None and part == "init_args"):
                node[part] = {}
                self.origins[at[: depth + 1]] = str(origin)
            node = node[part]
            if not isinstance(node, dict):
                raise ValueError(f"{origin}: {key}: {'.'.join(at[: depth + 1])} is a plain value and has no parts")
        beside = origin if isinstance(origin, Path) else None
        node[at[-1]] = self._with_presets(value, beside, at)
        self.origins[at] = str(origin)

    def get(self, key: str) -> Any:
        """The value of a dotted key, in which `init_args` may be left out; a KeyError if there is none."""
        node: Any = self.tree
        for part in self.place(key):
            if not isinstance(node, Mapping):
                raise KeyError(key)
            node = node[part]
        return node

    def place(self, key: str) -> Keys:
        """The keys on the way to a dotted key, `init_args` among them where the tree has them."""
        node, at = self.tree, ()
        for part in key.split("."):
            if isinstance(node, dict) and "class_path" in node and part not in ("class_path", "init_args"):
                at, node = (*at, "init_args"), node.get("init_args") or {}
            at = (*at, part)
            node = node.get(part) if isinstance(node, dict) else None
        return at

    def link(self) -> None:
        """Put in the values that links stand for; a ValueError for a link to no key, or to another link."""
        for at, value in list(leaves(self.tree)):
            found = LINK.fullmatch(value) if isinstance(value, str) else None
            if found:
                _put(self.tree, at, self._linked(found[1], at))

    def _linked(self, key: str, at: Keys) -> Any:
        try:
            value = self.get(key)
        except KeyError:
            value = None
        if value is None or (isinstance(value, str) and LINK.fullmatch(value)):
            raise ValueError(f"{self.named(at)}: ${{{key}}} links to no value; name a key of the recipe that has one")
        return deepcopy(value)

    def named(self, at: Keys) -> str:
        """A key for people: the file that set it, or the nearest key above it, then the key."""
        known = (self.origins[at[:n]] for n in range(len(at), -1, -1) if at[:n] in self.origins)
        file = next(known, "")
        with contextlib.suppress(ValueError):
            file = str(Path(file).relative_to(Path.cwd()))
        return ": ".join(part for part in (file, ".".join(at)) if part)

    def _with_presets(self, value: Any, file: Path | None, at: Keys) -> Any:
        self.origins[at] = COMMAND_LINE if file is None else str(file)
        if isinstance(value, dict):
            return {str(key): self._with_presets(item, file, (*at, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self._with_presets(item, file, (*at, str(index))) for index, item in enumerate(value)]
        if isinstance(value, str) and value.endswith(".yaml"):
            try:
                preset = find_file(value, file)
            except FileNotFoundError as error:
                place = self.named(at)
                raise FileNotFoundError(f"{place}: there is no preset {value}; see configs/") from error
            return self._with_presets(read_yaml(preset), preset, at)
        return value


def load_config(file: Path) -> dict[str, Any]:
    """The content of a preset with the presets that it names put in; errors as of `read_yaml`."""
    config = Config()
    config.merge(file)
    return config.tree


def parse_overrides(arguments: Sequence[str], first_keys: Sequence[str]) -> list[tuple[str, Any]]:
    """`--a.b 1 --c.d=x` as dotted keys and YAML values; a ValueError for anything else.

    Args:
        first_keys: what an override may begin with.
    """
    pairs, rest = [], list(arguments)
    while rest:
        name = rest.pop(0)
        key, equals, value = name.removeprefix("--").partition("=")
        if not name.startswith("--") or ("." not in key and key not in first_keys):
            raise ValueError(f"unknown argument {name!r}; overrides look like --trainer.max_steps 100")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"--{key} needs a value: --{key} VALUE")
            value = rest.pop(0)
        try:
            pairs.append((key, parse_yaml(value)))
        except yaml.YAMLError as error:
            raise ValueError(f"--{key} {value!r} is not a value: {' '.join(str(error).split())}") from error
    return pairs


def leaves(tree: Any, at: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every plain value of a configuration with its keys; lists count by index."""
    if isinstance(tree, Mapping | list):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, (*at, str(key)))
    else:
        yield at, tree


def _merge(base: dict[str, Any], overlay: dict[str, Any]) -> None:
    for key, value in overlay.items():
        old = base.get(key)
        replaces = not isinstance(old, dict) or not isinstance(value, dict)
        if replaces or value.get("class_path", old.get("class_path")) != old.get("class_path"):
            base[key] = value
        else:
            _merge(old, value)


def _put(tree: Any, at: Keys, value: Any) -> None:
    for key in at[:-1]:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    tree[int(at[-1]) if isinstance(tree, list) else at[-1]] = value
