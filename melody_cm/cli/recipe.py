"""From a recipe to one complete configuration: presets put in, overlays merged, overrides set, every key checked.

A slot's value is inline or the path of a preset, relative to the file that names it. An overlay (size, machine) merges
key by key; a preset path or another `class_path` replaces the slot as a whole, so no argument of the old class stays.
An overlay may begin with `extends: PATH`, another overlay whose keys hold where it has none of its own.
"""

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from melody_cm.cli.yaml_file import existing, parse_yaml, read_yaml

SIZES = ("tiny", "cpu", "small", "paper")
RECIPE_KEYS = ("needs", "cost", "seed_everything", "model", "data", "trainer")
Keys = tuple[str, ...]


@dataclass
class Recipe:
    """A composed recipe.

    Attributes:
        name: "system/stage", or "ablations/group/stage": the recipe's path below recipes/.
        needs: names of the stages whose results it reads.
        cost: measured seconds per step, for the plan; None where not measured.
        config: what LightningCLI parses: seed_everything, model, data, trainer.
        origins: the file (or "command line") that set each key.
    """

    name: str
    path: Path
    size: str
    needs: list[str] = field(default_factory=list)
    cost: dict[str, float | None] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, str] = field(default_factory=dict)

    @property
    def stages_read(self) -> list[str]:
        """Every stage that a Frozen* slot of the configuration names."""
        return sorted({value for keys, value in leaves(self.config) if keys[-1] == "stage" and "/" in str(value)})


def compose(
    path: Path, size: str, machine: str = "cpu", overrides: Sequence[str] = (), corpus: str | None = None
) -> Recipe:
    """The complete configuration of a recipe at a size.

    Args:
        machine: a file of configs/machines, or the path of one like them.
        corpus: a manifest or folder of music that takes the place of the recipe's own corpus.
        overrides: `--trainer.max_steps 100`, `--model.denoiser.width=64`; `init_args` may be left out.

    Raises:
        FileNotFoundError, ValueError: an unknown file, size or key; the message names file, key and nearest valid key.
    """
    path = existing(path).resolve()
    name = path.relative_to(recipes_root(path)).with_suffix("").as_posix()
    recipe = Recipe(name=name, path=path, size=size)
    merged = load(path, recipe.origins)
    for file in _overlays(path, recipe.name, size, machine):
        _merge(merged, load_overlay(file, recipe.origins), recipe.origins)
    if corpus is not None:
        _set(merged, ("data", "corpus"), _corpus_slot(corpus), recipe.origins)
    for keys, value in parse_overrides(overrides):
        _set(merged, keys, value, recipe.origins)
    recipe.needs = merged.pop("needs", [])
    recipe.cost = merged.pop("cost", {})
    recipe.config = merged
    check(recipe)
    return recipe


def recipes_root(path: Path) -> Path:
    """The folder of all recipes that a recipe, or a folder of them, lies in: the one beside configs/.

    Raises:
        ValueError: there is none.
    """
    path = Path(path).resolve()
    for folder in (path, *path.parents):
        if (folder.parent / "configs").is_dir():
            return folder
    raise ValueError(f"{path} is no recipe; recipes lie in recipes/SYSTEM/ beside configs/")


def load_overlay(file: Path, origins: dict[Keys, str]) -> dict[str, Any]:
    """An overlay with its presets put in, merged into the one that it extends.

    Raises:
        FileNotFoundError: the extended overlay does not exist.
    """
    own = read_yaml(file)
    extended = own.pop("extends", None)
    if extended is None:
        return _with_presets(own, file, origins, ())
    base = (file.parent / str(extended)).resolve()
    if not base.is_file():
        raise FileNotFoundError(f"{file}: extends: there is no overlay {extended}; give a path relative to this file")
    merged = load_overlay(base, origins)
    _merge(merged, _with_presets(own, file, origins, ()), origins)
    return merged


def load(file: Path, origins: dict[Keys, str] | None = None, at: Keys = ()) -> Any:
    """A YAML file with all presets it names put in; `origins` learns which file each key came from."""
    return _with_presets(read_yaml(file), file, {} if origins is None else origins, at)


def parse_overrides(arguments: Sequence[str]) -> list[tuple[Keys, Any]]:
    """`--a.b 1 --c.d=x` as keys and YAML values."""
    pairs, rest = [], list(arguments)
    while rest:
        name = rest.pop(0)
        key, equals, value = name.removeprefix("--").partition("=")
        if not name.startswith("--") or ("." not in key and key not in RECIPE_KEYS):
            raise ValueError(f"unknown argument {name!r}; overrides look like --trainer.max_steps 100")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"--{key} needs a value: --{key} VALUE")
            value = rest.pop(0)
        try:
            pairs.append((tuple(key.split(".")), parse_yaml(value)))
        except yaml.YAMLError as error:
            raise ValueError(f"--{key} {value!r} is not a value: {' '.join(str(error).split())}") from error
    return pairs


def check(recipe: Recipe) -> None:
    """Refuse every key that no constructor knows."""
    from lightning.pytorch import Trainer

    from melody_cm.data import MusicDataModule

    _check_names(recipe, (), recipe.config, RECIPE_KEYS)
    _check_arguments(recipe, ("trainer",), recipe.config.get("trainer", {}), Trainer)
    _check_arguments(recipe, ("data",), recipe.config.get("data", {}), MusicDataModule)
    _check_slot(recipe, ("model",), recipe.config.get("model", {}))


def planned_steps(recipe: Recipe) -> int:
    """Optimizer steps, or batches to gather for a stage that is fitted."""
    trainer = recipe.config["trainer"]
    steps = trainer.get("limit_train_batches", trainer.get("max_steps"))
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"{recipe.name}: trainer.max_steps is {steps}; a stage needs at least 1 step")
    return steps


def leaves(tree: Any, at: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every plain value of a configuration with its keys; lists count by index."""
    if isinstance(tree, Mapping | list):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, (*at, str(key)))
    else:
        yield at, tree


def _overlays(path: Path, name: str, size: str, machine: str) -> list[Path]:
    configs = recipes_root(path).parent / "configs"
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; sizes: {', '.join(SIZES)}")
    overlays = [configs / "sizes" / size / f"{name}.yaml"] if size != "paper" else []
    named = configs / "machines" / f"{machine}.yaml"
    if not named.is_file() and not Path(machine).is_file():
        known = ", ".join(sorted(file.stem for file in named.parent.glob("*.yaml")))
        raise ValueError(f"unknown machine {machine!r}; machines: {known}, or the path of an overlay like theirs")
    return [*overlays, named if named.is_file() else Path(machine)]


def _corpus_slot(path: str) -> Any:
    from melody_cm.data import open_corpus
    from melody_cm.storage import describe

    return describe(open_corpus(path))


def _with_presets(value: Any, file: Path, origins: dict[Keys, str], at: Keys) -> Any:
    origins[at] = str(file)
    if isinstance(value, dict):
        return {key: _with_presets(item, file, origins, (*at, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_presets(item, file, origins, (*at, str(index))) for index, item in enumerate(value)]
    if isinstance(value, str) and value.endswith(".yaml"):
        preset = (file.parent / value).resolve()
        if not preset.is_file():
            raise FileNotFoundError(f"{file}: {'.'.join(at)}: there is no preset {value}; see configs/")
        return load(preset, origins, at)
    return value


def _merge(base: dict[str, Any], overlay: dict[str, Any], origins: dict[Keys, str]) -> None:
    for key, value in overlay.items():
        old = base.get(key)
        replaces = not isinstance(old, dict) or not isinstance(value, dict)
        if replaces or value.get("class_path", old.get("class_path")) != old.get("class_path"):
            base[key] = value
        else:
            _merge(old, value, origins)


def _set(tree: dict[str, Any], keys: Keys, value: Any, origins: dict[Keys, str]) -> None:
    """Set one value; a string that is the path of a YAML file puts that preset in."""
    node, at = tree, ()
    for key in (*keys[:-1], None):
        parts = [key] if key else []
        if "class_path" in node and (key or keys[-1]) not in ("class_path", "init_args"):
            parts = ["init_args", *parts]
        for part in parts:
            at = (*at, part)
            if part not in node:
                node[part], origins[at] = {}, "command line"
            node = node[part]
            if not isinstance(node, dict):
                raise ValueError(f"--{'.'.join(keys)}: {'.'.join(at)} is a plain value and has no parts")
    at = (*at, keys[-1])
    is_preset = isinstance(value, str) and value.endswith(".yaml")
    node[keys[-1]] = load(Path(value), origins, at) if is_preset else value
    origins[at] = "command line"


def _check_slot(recipe: Recipe, at: Keys, slot: Any) -> None:
    """Check one value: a class with its arguments, a list of such, or plain data."""
    if isinstance(slot, list):
        for index, item in enumerate(slot):
            _check_slot(recipe, (*at, str(index)), item)
    if not isinstance(slot, dict) or "class_path" not in slot:
        return
    _check_names(recipe, at, slot, ("class_path", "init_args"))
    module, _, name = slot["class_path"].rpartition(".")
    try:
        found = getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(_at(recipe, (*at, "class_path")) + f"no class {slot['class_path']!r} ({error})") from error
    _check_arguments(recipe, (*at, "init_args"), slot.get("init_args") or {}, found)


def _check_arguments(recipe: Recipe, at: Keys, arguments: dict[str, Any], kind: Any) -> None:
    _check_names(recipe, at, arguments, _parameters(kind))
    for name, value in arguments.items():
        _check_slot(recipe, (*at, name), value)


def _check_names(recipe: Recipe, at: Keys, node: Any, known: Sequence[str]) -> None:
    if not isinstance(node, dict):
        raise ValueError(_at(recipe, at) + f"expected keys and values, got {node!r}")
    for key in node:
        refuse_unknown(_origin(recipe, (*at, key)), "".join(f"{part}." for part in at), {key: None}, known)


def refuse_unknown(file: Path | str, prefix: str, node: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse keys that are not known: file, key and the nearest valid key in one line."""
    for key in node:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            hint = f"the nearest valid key is {near[0]!r}" if near else "this takes no arguments"
            raise ValueError(f"{file}: {prefix}{key}: unknown key; {hint}")


def _at(recipe: Recipe, keys: Keys) -> str:
    return f"{_origin(recipe, keys)}: {'.'.join(keys)}: "


def _origin(recipe: Recipe, keys: Keys) -> str:
    """The file that set a key, or the nearest key above it, as the user would name it."""
    origin = next((recipe.origins[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in recipe.origins), "")
    try:
        return str(Path(origin).relative_to(Path.cwd()))
    except ValueError:
        return origin


def _parameters(kind: Any) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "self"]
