"""A recipe: one YAML file that says everything about a stage, composed at a size into one checked configuration.

`base: musiccm/4_consistency_distillation` begins with another recipe at the same size; `set:` then changes single
values of it. `sizes:` holds an overlay for each size but paper, which is the recipe as it stands. What comes later
wins: base, the recipe's own keys, its `set`, its size, the machine, the corpus, the command line.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from melody_cm.configuration import (
    Config,
    check_arguments,
    check_slot,
    find_file,
    leaves,
    parse_overrides,
    read_yaml,
    refuse_unknown,
    shipped,
)
from melody_cm.data import MusicDataModule, open_corpus
from melody_cm.placement import Placement
from melody_cm.storage import build, describe, write_text
from melody_cm.storage.description import STAGE

SIZES = ("tiny", "cpu", "small", "paper")
RECIPE_KEYS = ("cost", "seed_everything", "compile", "model", "data", "trainer")
LIGHTNING = (Callback, Logger, Strategy, Profiler, Precision, ClusterEnvironment)
SET_BY_US = {
    "default_root_dir": "a stage's folder is RUNS/RUN/SYSTEM/STAGE; choose it with --runs and --run",
    "enable_checkpointing": "last.ckpt is always kept; add lightning's ModelCheckpoint to trainer.callbacks for more",
    "use_distributed_sampler": "the data module deals clips to processes itself",
    "check_val_every_n_epoch": "validation is counted in steps; use trainer.val_check_interval",
    "fast_dev_run": "a stage takes all its steps; for a look use --size tiny, or trainer.max_steps in a run of its own",
    "overfit_batches": "training reads its whole split; use a corpus of a few clips",
    "barebones": "a stage keeps its logs and last.ckpt",
    "reload_dataloaders_every_n_epochs": "the training loader is endless",
    "min_steps": "a stage takes trainer.max_steps",
    "min_epochs": "a stage takes trainer.max_steps",
    "limit_test_batches": "a stage is not tested; use evaluate or compare",
    "limit_predict_batches": "a stage does not predict; use generate",
}
# Where something is learnt by gradient; a tokenizer's fitting counts its batches by them.
SET_BY_STEPS = {
    "limit_train_batches": "a stage that learns takes trainer.max_steps",
    "max_epochs": "a stage that learns takes trainer.max_steps",
}
LEAST = {"log_every_n_steps": 1, "val_check_interval": 1, "accumulate_grad_batches": 1, "gradient_clip_val": 0}


@dataclass
class Recipe:
    """A composed recipe."""

    name: str  # "system/stage", or "ablations/group/stage": its path below the folder `recipes`.
    path: Path
    size: str
    cost: dict[str, float | None] = field(default_factory=dict)  # Measured seconds per step, for the plan.
    config: dict[str, Any] = field(default_factory=dict)  # seed_everything, compile (by torch), model, data, trainer.

    @property
    def needs(self) -> list[str]:
        """Every finished stage that a slot of the configuration names."""
        values = (str(value) for _, value in leaves(self.config))
        return sorted({value.removeprefix(STAGE) for value in values if value.startswith(STAGE)})

    @property
    def foreign(self) -> list[str]:
        """The classes and functions of other people's modules that it runs."""
        paths = {str(value) for keys, value in leaves(self.config) if keys[-1:] == ("class_path",)}
        return sorted(path for path in paths if path.partition(".")[0] not in ("melody_cm", "lightning", "torch"))

    def as_yaml(self) -> str:
        """All that would run, as a YAML file that runs by itself."""
        content = yaml.safe_dump({"cost": self.cost, **self.config} if self.cost else self.config, sort_keys=False)
        return f"--- # {self.name} at size {self.size}\n{content}"

    @property
    def minutes(self) -> float | None:
        """Of one core, to train it; None where nobody measured it."""
        seconds = self.cost.get("seconds_per_step")
        return None if seconds is None else self.planned_steps * seconds / 60

    @property
    def planned_steps(self) -> int:
        """Optimizer steps, or batches to gather for a stage that is fitted; a ValueError if there are none."""
        trainer = self.config["trainer"]
        steps = trainer.get("limit_train_batches", trainer.get("max_steps"))
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"{self.name}: trainer.max_steps is {steps}; a stage needs at least 1 step")
        return steps


def in_words(minutes: float) -> str:
    """A time as a plan says it: "5 s", "4.3 min", "7.2 h"; seconds are rounded up, so that no work takes none."""
    if minutes < 1:
        return f"{math.ceil(60 * minutes)} s"
    return f"{minutes:.1f} min" if minutes < 60 else f"{minutes / 60:.1f} h"


@dataclass
class Setting:
    """How recipes are composed: what all training commands share.

    Attributes:
        size: tiny, cpu, small or paper.
        machine: a file of configs/machines, or the path of one like them.
        corpus: a manifest or folder of music that takes the place of the recipes' own corpus.
        overrides: `--trainer.max_steps 100`, `--model.denoiser.width=64`.
        placement: where finished stages are used, and how precisely; trainings have it from the machine.
    """

    size: str
    machine: str = "cpu"
    corpus: str | None = None
    overrides: Sequence[str] = ()
    placement: Placement = field(default_factory=Placement.choose)

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"unknown size {self.size!r}; sizes: {', '.join(SIZES)}")
        self.overrides = list(self.overrides)

    def compose(self, recipe: Path | str) -> Recipe:
        """The complete configuration of a recipe.

        Args:
            recipe: a YAML file, or the name of a recipe that ships, such as "melody/4_semantic_lm".

        Raises:
            FileNotFoundError, ValueError: an unknown file, size, key or value; the message names file and key.
        """
        path = find_recipe(recipe)
        config = Config()
        _add(config, path, self.size, ())
        config.merge(find_machine(self.machine))
        if self.corpus is not None:
            config.set("data.corpus", describe(open_corpus(self.corpus)))
        for key, value in parse_overrides(self.overrides, RECIPE_KEYS):
            config.set(key, value)
        config.link()
        cost = config.tree.pop("cost", None) or {}
        check_recipe(config)
        return Recipe(recipe_name(path), path, self.size, cost, config.tree)


def find_recipe(recipe: Path | str, beside: Path | None = None) -> Path:
    """The file of a recipe, given by its path or name, else a FileNotFoundError; a name is also looked for in the
    folder of the recipe `beside`."""
    if str(recipe).endswith(".yaml"):
        return find_file(recipe, beside).resolve()
    folders = [] if beside is None else [beside.parent.parent]
    for folder in [*folders, shipped("recipes")]:
        if (folder / f"{recipe}.yaml").is_file():
            return (folder / f"{recipe}.yaml").resolve()
    raise FileNotFoundError(f"there is no recipe {recipe}; `melody-cm recipes` lists those that ship")


def recipe_name(path: Path) -> str:
    """ "system/stage": the path of a recipe below the nearest folder `recipes`, else below its own folder's parent."""
    above = [folder for folder in path.parents if folder.name == "recipes"]
    return path.relative_to(above[0] if above else path.parent.parent).with_suffix("").as_posix()


def find_machine(machine: str) -> Path:
    """The overlay of a machine, by name or path; a ValueError if there is none."""
    named = shipped("configs/machines") / f"{machine}.yaml"
    if not named.is_file() and not Path(machine).is_file():
        known = ", ".join(sorted(file.stem for file in named.parent.glob("*.yaml")))
        raise ValueError(f"unknown machine {machine!r}; machines: {known}, or the path of an overlay like theirs")
    return named if named.is_file() else Path(machine)


def check_recipe(config: Config) -> None:
    """Refuse every key and value that no constructor takes with a ValueError: file, key and what fits."""
    for key in config.tree:
        refuse_unknown(config.named((key,)), key, RECIPE_KEYS)
    for key in ("model", "data", "trainer"):
        if not isinstance(config.tree.get(key), Mapping):
            raise ValueError(f"{config.named((key,))}: a recipe needs {key} with keys and values")
    if not isinstance(config.tree.get("compile", False), bool):
        raise ValueError(f"{config.named(('compile',))}: {config.tree['compile']!r} is neither true nor false")
    learns = "optimization" in (config.tree["model"].get("init_args") or {})
    for key, reason in {**SET_BY_US, **(SET_BY_STEPS if learns else {})}.items():
        if key in config.tree["trainer"]:
            raise ValueError(f"{config.named(('trainer', key))}: set by melody-cm: {reason}")
    check_arguments(config.tree["trainer"], Trainer, ("trainer",), config.named, LIGHTNING)
    check_arguments(config.tree["data"], MusicDataModule, ("data",), config.named)
    for key, least in LEAST.items():
        if isinstance(value := config.tree["trainer"].get(key), int | float) and value < least:
            raise ValueError(f"{config.named(('trainer', key))}: {value} is too low; give {least} or more")
    for keys, value in leaves(config.tree["trainer"].get("callbacks")):
        if keys[-1:] == ("class_path",) and str(value).endswith(".Timer"):
            place = config.named(("trainer", "callbacks", *keys))
            raise ValueError(f"{place}: use trainer.max_time, which saves and lets the same command go on")
    check_slot(config.tree["model"], LightningModule, ("model",), config.named, (LightningModule,))


def build_data(config: Mapping[str, Any], seed: int = 0) -> MusicDataModule:
    """The data module that the section `data` of a recipe describes."""
    corpus = build(config["corpus"])
    return MusicDataModule(**{"seed": seed, **config, "corpus": corpus})


def _add(config: Config, path: Path, size: str, derived: tuple[Path, ...]) -> None:
    """Add a recipe, after the one that it is based on, to a configuration."""
    if path in derived:
        raise ValueError(f"{path}: base: this recipe is based on itself; name another one")
    own = read_yaml(path)
    base, sizes = own.pop("base", None), own.pop("sizes", None) or {}
    for name in sizes:
        refuse_unknown(f"{path}: sizes.{name}", name, SIZES)
    if base is not None:
        _add(config, find_recipe(base, path), size, (*derived, path))
    elif size not in (*sizes, "paper"):
        raise ValueError(f"{path} has no size {size}; add it below `sizes:`, or train it as it stands: --size paper")
    for overlay in (own, sizes.get(size) or {}):
        changes = overlay.pop("set", None) or {}
        config.merge(path, overlay)
        for key, value in changes.items():
            config.set(key, value, path)


@dataclass
class ListedRecipe:
    """A recipe that ships."""

    name: str  # "melody/4_semantic_lm".
    purpose: str  # The first sentence of its header.
    needs: list[str]  # The stages that it reads at a size.
    minutes: float | None  # Of one core, at that size (benchmarks/step_costs.py); None where not measured.

    @property
    def cost(self) -> str:
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
