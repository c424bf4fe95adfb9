"""`melody-cm train`: a recipe, or a folder of them with everything they need, in one process."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.recipe import Recipe


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "train", help="train one recipe, or a folder of recipes in order", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("recipe", type=Path, help="recipes/SYSTEM or recipes/SYSTEM/STAGE.yaml")
    add_setting(parser)
    parser.add_argument("--run", required=True, help="name of the run; results go to RUNS/NAME/SYSTEM/STAGE")
    parser.add_argument("--retrain", action="store_true", help="train finished stages again if they would differ now")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.set_defaults(handler=train, takes_overrides=True)


def add_setting(parser: argparse.ArgumentParser) -> None:
    """The options that all training commands share."""
    parser.add_argument("--size", help="tiny, cpu, small or paper")
    parser.add_argument("--machine", default="cpu", help="cpu, gpu, ddp, or an overlay like configs/machines/*.yaml")
    parser.add_argument("--corpus", help="a manifest or a folder of music, in place of the procedural corpus")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")


def train(arguments: argparse.Namespace) -> int:
    """Plan, then train what is not finished."""
    from melody_cm.cli.plan import Setting, plan
    from melody_cm.cli.run import run_folder, train_all

    setting = Setting(require_size(arguments.size), arguments.machine, arguments.corpus, arguments.overrides)
    recipes = plan(arguments.recipe, setting)
    run = run_folder(arguments.runs, arguments.run)
    if arguments.dry_run:
        print_plan(recipes, run, setting)
        return 0
    return train_all(recipes, run, arguments.retrain)


def print_plan(recipes: "list[Recipe]", run: Path, setting: "Setting") -> None:
    """A table of stages: parameters, steps, expected minutes, disk."""
    from rich.console import Console
    from rich.table import Table

    from melody_cm.cli.finished import read_finished
    from melody_cm.cli.plan import BYTES_PER_PARAMETER, count_parameters
    from melody_cm.cli.recipe import planned_steps

    table = Table(title=f"{run}, size {setting.size}, machine {setting.machine}")
    for heading in ("stage", "state", "parameters", "steps", "minutes on 2 CPU cores", "disk"):
        table.add_column(heading, justify="left" if heading in ("stage", "state") else "right")
    for recipe in recipes:
        parameters, steps = count_parameters(recipe, setting), planned_steps(recipe)
        seconds = recipe.cost.get("seconds_per_step")
        minutes = "not measured" if seconds is None else f"{steps * seconds / 60:.1f}"
        state = "finished" if read_finished(run / recipe.name) else "to do"
        disk = f"{parameters * BYTES_PER_PARAMETER / 2**20:.1f} MiB"
        table.add_row(recipe.name, state, f"{parameters / 1e6:.2f} M" if parameters else "-", str(steps), minutes, disk)
    console = Console()
    Console(width=max(console.width, 120)).print(table)


def require_size(size: str | None) -> str:
    """The size that was said; ValueError with all sizes and their cost if none was."""
    if size:
        return size
    raise ValueError(
        "--size must be said: tiny (about a minute a stage on 2 CPU cores, only proves the path), "
        "cpu (2-3 M parameters, about an hour a stage on 2 cores), "
        "small (18-25 M, about 10 minutes a stage on one large GPU), paper (weeks on many)"
    )
