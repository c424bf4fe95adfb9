"""The recipes that ship with the package: what there is, and a copy to edit."""

import re
from dataclasses import dataclass
from pathlib import Path

from melody_cm.configuration import shipped
from melody_cm.runs.recipe import Setting, find_recipe, in_words
from melody_cm.storage import write_text


@dataclass
class ListedRecipe:
    """A recipe that ships."""

    name: str  # "melody/4_semantic_lm".
    purpose: str  # The first sentence of its header.
    needs: list[str]  # The stages that it reads at a size.
    minutes: float | None  # Of one core, at that size (benchmarks/step_costs.py); None where not measured.

    @property
    def cost(self) -> str:
        """Its time in words."""
        return "cost not measured" if self.minutes is None else f"{in_words(self.minutes)} on one core"


def list_recipes(size: str = "tiny") -> list[ListedRecipe]:
    """Every stage recipe that ships, with what it needs and costs at a size."""
    root, setting, found = shipped("recipes"), Setting(size), []
    for path in sorted(root.rglob("*.yaml")):
        if path.parent.name == "compare":
            continue
        recipe = setting.compose(path)
        found.append(ListedRecipe(recipe.name, _purpose(path), recipe.needs, recipe.minutes))
    return found


def copy_recipe(recipe: str, file: Path) -> Path:
    """Copy a recipe that ships, such as "melody/4_semantic_lm" or "compare/tiny", to a new file to be edited; it works
    from anywhere, at every size. A FileNotFoundError for no such recipe, a FileExistsError if the file is there
    already."""
    source, file = find_recipe(recipe.removeprefix("recipes/").removesuffix(".yaml")), Path(file)
    if file.exists():
        raise FileExistsError(f"{file} is there already; give a new file")
    write_text(file, source.read_text(encoding="utf-8"))
    return file


def _purpose(path: Path) -> str:
    """The comment at the head of a file up to its first full stop."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return re.split(r"(?<=\.)\s", " ".join(lines))[0]
