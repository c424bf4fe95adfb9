"""Which stages a command means, in which order, at which cost."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import LightningModule
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from melody_cm.configuration import shipped
from melody_cm.runs.fingerprint import read_finished
from melody_cm.runs.memory import num_processes, stage_on_meta, training_memory
from melody_cm.runs.recipe import Recipe, Setting, find_recipe, in_words
from melody_cm.runs.systems import stages_of
from melody_cm.training import Stage

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
    folder = recipe_folder(path)
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
    """Stages that would be trained, as a table: parameters, memory of each process, steps, expected time of one
    core, disk."""

    recipes: list[Recipe]  # In order.
    setting: Setting  # How they are composed.
    run: Path  # The folder of the run.

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(title=f"{self.run}, size {self.setting.size}, machine {self.setting.machine}")
        for heading in ("stage", "state", "parameters", "memory", "steps", "time on one core", "disk"):
            table.add_column(heading, justify="left" if heading in ("stage", "state") else "right")
        to_do, learning = self._to_do(), 0
        for recipe in self.recipes:
            parameters, memory = self._measured(recipe)
            learning += parameters
            state = "to do" if recipe in to_do else "finished"
            millions = f"{parameters / 1e6:.2f} M" if parameters else "-"
            steps, time = str(recipe.planned_steps), _time([recipe])
            table.add_row(recipe.name, state, millions, memory, steps, time, _disk(parameters))
        table.add_section()
        steps, millions = str(sum(recipe.planned_steps for recipe in self.recipes)), f"{learning / 1e6:.2f} M"
        table.add_row("together", f"{len(to_do)} to do", millions, "", steps, _time(to_do), _disk(learning))
        yield table

    def show(self) -> None:
        """Print the table, wide enough for its names."""
        console = Console()
        Console(width=max(console.width, 120)).print(self)

    @property
    def sentence(self) -> str:
        """What is to be trained, in a line; the time is that of one core, as far as it was measured."""
        to_do = self._to_do()
        return f"{len(to_do)} of {len(self.recipes)} stages are to be trained, time on one core: {_time(to_do)}"

    def _to_do(self) -> list[Recipe]:
        """The stages that are not finished."""
        return [recipe for recipe in self.recipes if not read_finished(self.run / recipe.name)]

    def _measured(self, recipe: Recipe) -> tuple[int, str]:
        """Parameters that learn, and what a step needs of each process where there are several."""
        try:
            stage = stage_on_meta(recipe, self.setting)
        except (OSError, ValueError):  # Public weights, which a plan does not load.
            return 0, "not measured"
        memory, processes = training_memory(stage, recipe), num_processes(recipe.config["trainer"])
        each = f"{processes} x " if processes > 1 else ""
        shown = "-" if memory is None else f"{each}{_bytes(memory.total)}"
        return learning_parameters(stage), shown


def _time(recipes: list[Recipe]) -> str:
    """What stages take together, as far as it was measured."""
    known = [recipe.minutes for recipe in recipes if recipe.minutes is not None]
    if recipes and not known:
        return "not measured"
    return f"{'over ' if len(known) < len(recipes) else ''}{in_words(sum(known, 0.0))}"


def _disk(parameters: int) -> str:
    return _bytes(parameters * BYTES_PER_PARAMETER) if parameters else "-"


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def learning_parameters(stage: LightningModule) -> int:
    """Parameters of a stage that learn, without those of a discriminator; none of one that is fitted."""
    learning = stage.trained.parameters() if isinstance(stage, Stage) else ()
    return sum(parameter.numel() for parameter in learning if parameter.requires_grad)


def recipe_folder(path: Path | str) -> Path | None:
    """The folder of recipes that a path or name means, if it means one."""
    for folder in (Path(path), shipped(str(path)), shipped("recipes") / path):
        if folder.is_dir():
            return folder.resolve()
    return None
