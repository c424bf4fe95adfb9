"""Where YAML files are found, and how they are read."""

import re
from pathlib import Path
from typing import Any

import yaml

from melody_cm.storage import read_whole

MOST_BYTES = 2**18  # PyYAML takes seconds for them.
PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """A file or folder of `configs/` or `recipes/`, which lie inside an installed package, or beside it in a checkout.

    Args:
        name: as in "configs/embedding" or "recipes/melody".
    """
    root = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
    return root / name


def find_file(name: str | Path, beside: Path | None = None) -> Path:
    """The file of that name: as it is, beside the YAML file that names it, or among what ships with the package; else a
    FileNotFoundError."""
    near = [] if beside is None else [beside.parent / name]
    for path in [*near, Path(name), shipped(str(name))]:
        if path.is_file():
            return path
    where = "" if beside is None else f"{beside}: "
    raise FileNotFoundError(f"{where}there is no file {name}; `melody-cm recipes` lists what can be run")


def read_yaml(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        FileNotFoundError, ValueError: no such file, or it holds something else; the message names it.
    """
    try:
        content = parse_yaml(read_whole(find_file(file), MOST_BYTES).decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold keys and values, not a {type(content).__name__}")
    return content


def parse_yaml(text: str) -> Any:
    """YAML in which 1e-3 is a number, as people write it, and which does not refer to itself."""
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the floats of YAML 1.2, and without aliases, which can stand for endless data."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases (*{self.peek_event().anchor}) are not read; write the value out")
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
