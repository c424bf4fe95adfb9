"""Reading the YAML of recipes, overlays and presets."""

import re
from pathlib import Path
from typing import Any

import yaml


def existing(path: Path) -> Path:
    """The path of a file that is there.

    Raises:
        FileNotFoundError: it is not.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}; recipes/ and configs/ hold what can be run")
    return Path(path)


def read_yaml(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        FileNotFoundError, ValueError: no such file, or it holds something else; the message names it.
    """
    try:
        content = parse_yaml(existing(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold keys and values, not a {type(content).__name__}")
    return content


def parse_yaml(text: str) -> Any:
    """YAML in which 1e-3 is a number, as people write it, and not a text."""
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the floats of YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
