"""`melody-cm compare`: train what is missing, let every system make the same music, judge all by the same measures."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.cli.plan import Setting
    from melody_cm.interfaces import Pipeline

KEYS = {
    "size": str,
    "recipes": str,
    "seconds": (int, float),
    "prompts": (list, str),
    "seeds": list,
    "embeddings": list,
    "reference": str,
    "systems": dict,
}
SYSTEM_KEYS = {"pipeline": str, "num_steps": list}
BASELINE_KEYS = {"baseline": str, "num_steps": list}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    from melody_cm.cli.train import add_setting

    parser = subparsers.add_parser("compare", help="put systems side by side", description=__doc__, allow_abbrev=False)
    parser.add_argument("recipe", type=Path, help="recipes/compare/*.yaml")
    add_setting(parser)
    parser.add_argument("--run", help="the run whose stages are compared (default: the recipe's name)")
    parser.add_argument("--train-missing", action="store_true", help="train the stages that are not finished")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an older results.json: say what changed")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, tables, report.html, audio/")
    parser.set_defaults(handler=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Read the recipe, train, compare, print the table."""
    from rich.console import Console

    from melody_cm.benchmark import rich_table
    from melody_cm.benchmark.changes import change_table, read_older
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.run import check_run, run_folder, train_all

    recipe = read_compare_recipe(arguments.recipe)
    setting = Setting(arguments.size or recipe["size"], arguments.machine, arguments.corpus)
    run = run_folder(arguments.runs, arguments.run or f"compare-{arguments.recipe.stem}")
    stages = plan_systems(recipe, setting)
    older = read_older(arguments.against) if arguments.against else None
    if arguments.train_missing:
        if code := train_all(stages, run):
            return code
    else:
        check_run(stages, run)
    results = compare_run(recipe, setting, run, arguments.out)
    Console().print(rich_table(results))
    if older:
        Console().print(change_table(older, results))
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
        baseline = isinstance(system, dict) and "baseline" in system
        refuse_unfit(path, f"systems.{name}.", system, BASELINE_KEYS if baseline else SYSTEM_KEYS)
    if not any("pipeline" in system for system in systems.values()):
        raise ValueError(
            f"{path}: no system has a pipeline; name one, because the reference is the music it learned from"
        )
    recipe["recipes"] = path.parent / recipe["recipes"]
    recipe["embeddings"] = [path.parent / preset for preset in recipe["embeddings"]]
    for system in systems.values():
        if "pipeline" in system:
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

    presets = [system["pipeline"] for system in recipe["systems"].values() if "pipeline" in system]
    presets += recipe["embeddings"]
    return plan_stages(recipe["recipes"], sorted({stage for preset in presets for stage in stages_of(preset)}), setting)


def compare_run(recipe: dict[str, Any], setting: "Setting", run: Path, out: Path) -> dict[str, Any]:
    """Compare the systems of a run; writes results.json, tables, report.html and audio/ into `out`."""
    from melody_cm import benchmark
    from melody_cm.benchmark.machine import git_revision
    from melody_cm.cli.recipe import load
    from melody_cm.storage import build, enter_run

    enter_run(run)
    systems = {
        name: benchmark.System(open_system(system, recipe["prompts"], run), system["num_steps"])
        for name, system in recipe["systems"].items()
    }
    return benchmark.compare(
        systems,
        recipe["prompts"],
        recipe["seeds"],
        recipe["seconds"],
        reference_music(recipe, setting),
        [build(load(preset)) for preset in recipe["embeddings"]],
        out,
        metadata={
            "command": " ".join(["melody-cm", *sys.argv[1:]]),
            "git_revision": git_revision(),
            "size": setting.size,
            "run": run.name,
            "corpus": setting.corpus or "procedural",
        },
    )


def open_system(system: dict[str, Any], prompts: list[str], run: Path) -> "Pipeline":
    """A system of the run, or a baseline."""
    from melody_cm.benchmark.baselines import open_baseline
    from melody_cm.cli.export import pipeline_of_run

    return (
        open_baseline(system["baseline"], prompts) if "baseline" in system else pipeline_of_run(system["pipeline"], run)
    )


def reference_music(recipe: dict[str, Any], setting: "Setting") -> Iterator[tuple[Any, int]]:
    """Real clips of the reference split, as long as the generated ones, with their rate."""
    from melody_cm.cli.export import stages_of
    from melody_cm.cli.training import build_data

    stage = next(stages_of(system["pipeline"])[0] for system in recipe["systems"].values() if "pipeline" in system)
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
    return f"Report: {out}/report.html (tables beside it, clips in audio/). {worth}"
