"""Which stages a command means, in which order, at which cost."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from melody_cm.configuration import shipped
from melody_cm.interfaces import Network, Tokenizer
from melody_cm.runs.fingerprint import read_finished
from melody_cm.runs.recipe import Recipe, Setting, find_recipe
from melody_cm.runs.systems import stages_of
from melody_cm.storage import find_class
from melody_cm.storage.description import STAGE

BYTES_PER_PARAMETER = 24  # On disk: weights, two AdamW moments and the average in last.ckpt, the average in the export.


def plan(path: Path | str, setting: Setting) -> list[Recipe]:
    """The stages that a path means, in order: of a YAML file that one, of a folder what its system needs.

    Args:
        path: a recipe, or a folder of recipes; also by the name under which it ships ("recipes/melody", "melody").
            A folder whose name is that of a system (configs/pipeline) means the stages that make the system; any other
            folder means all its recipes. What they need comes first.

    Raises:
        FileNotFoundError: it is neither.
    """
    folder = _folder(path)
    if folder is None:
        return [setting.compose(path)]
    files = sorted(folder.glob("*.yaml"))
    preset = shipped("configs/pipeline") / f"{folder.name}.yaml"
    if folder.parent == shipped("recipes").resolve() and preset.is_file():
        return plan_stages(stages_of(preset), setting)
    if not files:
        raise FileNotFoundError(f"{path} is neither a recipe nor a folder of recipes; `melody-cm recipes` lists them")
    return plan_stages(files, setting)


def plan_stages(recipes: Iterable[Path | str], setting: Setting) -> list[Recipe]:
    """The recipes of these names or files, each after everything it needs."""
    ordered: dict[str, Recipe] = {}

    def add(name: Path | str, beside: Path | None = None) -> None:
        if name in ordered:
            return
        recipe = setting.compose(find_recipe(name, beside))
        for needed in recipe.needs:
            add(needed, recipe.path)
        ordered.setdefault(recipe.name, recipe)

    for each in recipes:
        add(each)
    return list(ordered.values())


@dataclass
class Plan:
    """Stages that would be trained, as a table: parameters, steps, expected minutes of one core, disk.

    Attributes:
        recipes: in order; setting: how they are composed; run: the folder of the run.
    """

    recipes: list[Recipe]
    setting: Setting
    run: Path

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(title=f"{self.run}, size {self.setting.size}, machine {self.setting.machine}")
        for heading in ("stage", "state", "parameters", "steps", "minutes on one core", "disk"):
            table.add_column(heading, justify="left" if heading in ("stage", "state") else "right")
        counts = [count_parameters(recipe, self.setting) for recipe in self.recipes]
        for recipe, parameters in zip(self.recipes, counts, strict=True):
            table.add_row(*self._cells(recipe, parameters))
        table.add_section()
        table.add_row(*self._total(counts))
        yield table

    def show(self) -> None:
        """Print the table, wide enough for its names."""
        console = Console()
        Console(width=max(console.width, 120)).print(self)

    def _cells(self, recipe: Recipe, parameters: int) -> list[str]:
        minutes = "not measured" if (expected := _minutes(recipe)) is None else f"{expected:.1f}"
        state = "finished" if read_finished(self.run / recipe.name) else "to do"
        millions = f"{parameters / 1e6:.2f} M" if parameters else "-"
        return [recipe.name, state, millions, str(recipe.planned_steps), minutes, _disk(parameters)]

    def _total(self, counts: list[int]) -> list[str]:
        """The last row; minutes are those of what is to do, as far as they were measured."""
        to_do = [recipe for recipe in self.recipes if not read_finished(self.run / recipe.name)]
        known = [minutes for recipe in to_do if (minutes := _minutes(recipe)) is not None]
        minutes = f"{'over ' if len(known) < len(to_do) else ''}{sum(known):.1f}"
        steps, millions = sum(recipe.planned_steps for recipe in self.recipes), f"{sum(counts) / 1e6:.2f} M"
        return ["together", f"{len(to_do)} to do", millions, str(steps), minutes, _disk(sum(counts))]


def _minutes(recipe: Recipe) -> float | None:
    """Of one core, to train it; None where nobody measured it."""
    seconds = recipe.cost.get("seconds_per_step")
    return None if seconds is None else recipe.planned_steps * seconds / 60


def _disk(parameters: int) -> str:
    return f"{parameters * BYTES_PER_PARAMETER / 2**20:.1f} MiB"


def count_parameters(recipe: Recipe, setting: Setting) -> int:
    """Parameters of the networks that a recipe trains, built on torch's meta device; a student is like its teacher."""
    slots = recipe.config["model"]["init_args"]
    teacher = slots.get("teacher")
    if isinstance(teacher, str) and teacher.startswith(STAGE):
        found = setting.compose(find_recipe(teacher.removeprefix(STAGE), recipe.path))
        slots = {"denoiser": found.config["model"]["init_args"]["denoiser"]}
    networks = [network for network in map(_on_meta, filter(_is_network, slots.values())) if network is not None]
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def _folder(path: Path | str) -> Path | None:
    """The folder of recipes that a path or name means, if it means one."""
    for folder in (Path(path), shipped(str(path)), shipped("recipes") / path):
        if folder.is_dir():
            return folder.resolve()
    return None


def _is_network(slot: Any) -> bool:
    if not (isinstance(slot, dict) and "class_path" in slot):
        return False
    kind = find_class(slot["class_path"])
    return isinstance(kind, type) and issubclass(kind, Network)


def _on_meta(slot: Any) -> Any:
    """What a slot describes, its networks without memory; finished stages and public weights are left out."""
    if isinstance(slot, list):
        return [_on_meta(item) for item in slot]
    if isinstance(slot, str) and slot.startswith(STAGE):
        return None
    if not (isinstance(slot, dict) and "class_path" in slot):
        return slot
    kind = find_class(slot["class_path"])
    if not isinstance(kind, type) or issubclass(kind, Tokenizer):  # A tokenizer is fitted, not trained.
        return None
    arguments = {name: _on_meta(value) for name, value in (slot.get("init_args") or {}).items()}
    with torch.device("meta" if issubclass(kind, Network) else "cpu"):
        return kind(**arguments)
