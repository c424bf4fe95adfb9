"""`melody-cm compare`: train what is missing, let every system make the same music, judge all by the same measures."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.cli.plan import Setting

KEYS = {
    "size": str,
    "recipes": str,
    "seconds": (int, float),
    "prompts": (list, str),
    "seeds": list,
    "embedding": str,
    "reference": str,
    "systems": dict,
}
SYSTEM_KEYS = {"pipeline": str, "num_steps": list}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    from melody_cm.cli.train import add_setting

    parser = subparsers.add_parser("compare", help="put systems side by side", description=__doc__, allow_abbrev=False)
    parser.add_argument("recipe", type=Path, help="recipes/compare/*.yaml")
    add_setting(parser)
    parser.add_argument("--run", help="the run whose stages are compared (default: the recipe's name)")
    parser.add_argument("--train-missing", action="store_true", help="train the stages that are not finished")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, table.md and audio/")
    parser.set_defaults(handler=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Read the recipe, train, compare, print the table."""
    from rich.console import Console

    from melody_cm.benchmark import rich_table
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.run import check_run, run_folder, train_all

    recipe = read_compare_recipe(arguments.recipe)
    setting = Setting(arguments.size or recipe["size"], arguments.machine, arguments.corpus)
    run = run_folder(arguments.runs, arguments.run or f"compare-{arguments.recipe.stem}")
    stages = plan_systems(recipe, setting)
    if arguments.train_missing:
        if code := train_all(stages, run):
            return code
    else:
        check_run(stages, run)
    results = compare_run(recipe, setting, run, arguments.out)
    Console().print(rich_table(results))
    print(closing_line(setting.size, arguments.out))
    return 0


def read_compare_recipe(path: Path) -> dict[str, Any]:
    """The recipe with presets' paths resolved and unknown keys refused."""
    from melody_cm.cli.recipe import read_yaml

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; recipes/compare holds what can be compared")
    recipe = read_yaml(path)
    refuse_unfit(path, "", recipe, KEYS)
    systems = recipe["systems"]
    for name, system in systems.items():
        refuse_unfit(path, f"systems.{name}.", system, SYSTEM_KEYS)
    for name in ("recipes", "embedding"):
        recipe[name] = path.parent / recipe[name]
    for system in systems.values():
        system["pipeline"] = path.parent / system["pipeline"]
    if isinstance(recipe["prompts"], str):
        lines = (path.parent / recipe["prompts"]).read_text(encoding="utf-8").splitlines()
        recipe["prompts"] = [line.strip() for line in lines if line.strip()]
    return recipe


def refuse_unfit(path: Path, prefix: str, node: Any, keys: dict[str, Any]) -> None:
    """Refuse unknown and missing keys and values of another kind, before anything is trained."""
    from melody_cm.cli.recipe import refuse_unknown

    if not isinstance(node, dict):
        raise ValueError(f"{path}: {prefix.rstrip('.')} must hold the keys {', '.join(keys)}")
    refuse_unknown(path, prefix, node, list(keys))
    for key, kind in keys.items():
        if not isinstance(node.get(key), kind):
            expected = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise ValueError(f"{path}: {prefix}{key} is {node.get(key)!r}, but must be of kind {expected}")
    if node.get("reference", "test") not in ("train", "valid", "test"):
        raise ValueError(f"{path}: reference is {node['reference']!r}; splits: train, valid, test")


def plan_systems(recipe: dict[str, Any], setting: "Setting") -> list:
    """All stages of all systems in order."""
    from melody_cm.cli.export import stages_of
    from melody_cm.cli.plan import plan_stages

    stages = [stage for system in recipe["systems"].values() for stage in stages_of(system["pipeline"])]
    return plan_stages(recipe["recipes"], sorted(set(stages)), setting)


def compare_run(recipe: dict[str, Any], setting: "Setting", run: Path, out: Path) -> dict[str, Any]:
    """Compare the systems of a run; writes results.json, table.md and audio/ into `out`."""
    from melody_cm import benchmark
    from melody_cm.cli.export import pipeline_of_run
    from melody_cm.cli.recipe import load
    from melody_cm.storage import build

    systems = {
        name: benchmark.System(pipeline_of_run(system["pipeline"], run), system["num_steps"])
        for name, system in recipe["systems"].items()
    }
    return benchmark.compare(
        systems,
        recipe["prompts"],
        recipe["seeds"],
        recipe["seconds"],
        reference_music(recipe, setting),
        build(load(recipe["embedding"])),
        out,
        metadata={"size": setting.size, "run": str(run), "corpus": setting.corpus or "procedural"},
    )


def reference_music(recipe: dict[str, Any], setting: "Setting") -> Iterator[tuple[Any, int]]:
    """Real clips of the reference split, as long as the generated ones, with their rate."""
    from melody_cm.cli.export import stages_of
    from melody_cm.cli.training import build_data

    stage = stages_of(next(iter(recipe["systems"].values()))["pipeline"])[0]
    config = setting.compose(recipe["recipes"] / f"{stage}.yaml").config
    data = build_data({**config["data"], "seconds": recipe["seconds"]})
    for batch in data.batches(recipe["reference"], batch_size=16):
        yield batch.waveform, data.sample_rate


def closing_line(size: str, out: Path) -> str:
    """Where the results are and what they are worth."""
    worth = {
        "tiny": "Tiny models only prove that the path works: expect noise-like music and distances that mean little.",
        "cpu": "Models of 2-3 M parameters: real learning, far from the papers' quality.",
    }.get(size, "Numbers of one run on one machine; read the notes below the table before quoting them.")
    return f"Results: {out}/results.json, {out}/table.md, {out}/audio. {worth}"
