"""Which stages a command means, in which order, at which cost."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from melody_cm.cli.recipe import Recipe, compose, recipes_root
from melody_cm.interfaces import Network, Tokenizer
from melody_cm.storage import Frozen, find_class

BYTES_PER_PARAMETER = 24  # On disk: weights, two AdamW moments and the average in last.ckpt, the average in the export.


@dataclass
class Setting:
    """How recipes are to be composed: the options that all training commands share."""

    size: str
    machine: str = "cpu"
    corpus: str | None = None
    overrides: list[str] = field(default_factory=list)

    def compose(self, path: Path) -> Recipe:
        """The complete configuration of a recipe."""
        return compose(path, self.size, self.machine, self.overrides, self.corpus)


def plan(path: Path, setting: Setting) -> list[Recipe]:
    """All stages of a folder after what they need from elsewhere, or the one stage of a YAML file."""
    path = Path(path)
    if path.is_file():
        return [setting.compose(path)]
    found = sorted(path.resolve().glob("*.yaml"))
    if not found:
        raise FileNotFoundError(f"{path} is neither a recipe nor a folder of recipes; see recipes/")
    root = recipes_root(path)
    return plan_stages(root, [file.relative_to(root).with_suffix("").as_posix() for file in found], setting)


def plan_stages(recipes: Path, stages: Iterable[str], setting: Setting) -> list[Recipe]:
    """The named stages ("system/stage", as their recipes lie below `recipes`), each after everything it needs."""
    ordered: dict[str, Recipe] = {}

    def add(name: str) -> None:
        if name not in ordered:
            recipe = setting.compose(recipes / f"{name}.yaml")
            for needed in recipe.needs:
                add(needed)
            ordered[name] = recipe

    for stage in stages:
        add(stage)
    return list(ordered.values())


def count_parameters(recipe: Recipe, setting: Setting) -> int:
    """Parameters of the networks that a recipe trains, built on torch's meta device; a student is like its teacher."""
    slots = recipe.config["model"]["init_args"]
    if "stage" in slots.get("teacher", {}).get("init_args", {}):
        teacher = setting.compose(recipes_root(recipe.path) / f"{slots['teacher']['init_args']['stage']}.yaml")
        slots = {"denoiser": teacher.config["model"]["init_args"]["denoiser"]}
    networks = [network for network in map(_on_meta, filter(_is_network, slots.values())) if network is not None]
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def _is_network(slot: Any) -> bool:
    return isinstance(slot, dict) and "class_path" in slot and issubclass(find_class(slot["class_path"]), Network)


def _on_meta(slot: Any) -> Any:
    """What a slot describes, its networks without memory and its frozen stages left out."""
    if isinstance(slot, list):
        return [_on_meta(item) for item in slot]
    if not (isinstance(slot, dict) and "class_path" in slot):
        return slot
    kind = find_class(slot["class_path"])
    if issubclass(kind, Frozen | Tokenizer):  # A tokenizer is fitted, not trained.
        return None
    arguments = {name: _on_meta(value) for name, value in (slot.get("init_args") or {}).items()}
    with torch.device("meta" if issubclass(kind, Network) else "cpu"):
        return kind(**arguments)
