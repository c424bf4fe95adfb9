"""`melody-cm train`: a recipe, or a folder of them with everything they need, in one process."""

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melody_cm.cli.finished import Fingerprint
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.recipe import Recipe

INTERRUPTED = 130


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

    setting = Setting(arguments.size or _ask_for_size(), arguments.machine, arguments.corpus, arguments.overrides)
    recipes = plan(arguments.recipe, setting)
    run = arguments.runs / arguments.run
    if arguments.dry_run:
        print_plan(recipes, run, setting)
        return 0
    return train_all(recipes, run, arguments.retrain)


def train_all(recipes: "list[Recipe]", run: Path, retrain: bool = False) -> int:
    """Train the stages of a run in order, skipping those that are finished and would come out the same.

    Raises:
        ValueError: a finished or begun stage was made from something else, and `retrain` was not asked for.
    """
    from melody_cm.cli.finished import fingerprint, read_finished
    from melody_cm.cli.training import build_data, train_stage
    from melody_cm.storage.frozen import RUN_VARIABLE

    os.environ[RUN_VARIABLE] = str(run.resolve())
    quieten()
    for recipe in recipes:
        folder = run / recipe.name
        made_from = fingerprint(recipe, build_data(recipe.config["data"]).fingerprint())
        done = read_finished(folder)
        if changed := _differences(folder, made_from):
            if not retrain:
                raise ValueError(
                    f"{folder} was made from something else: {'; '.join(changed[:4])}"
                    f"{' ...' if len(changed) > 4 else ''}. Use --retrain to replace it, or another --run"
                )
            _replace(folder, made_from)
        elif done is not None:
            say(f"{recipe.name}: finished before, skipped")
            continue
        outcome = train_stage(recipe, folder, made_from)
        if outcome is None:
            say(f"{recipe.name}: interrupted; saved. The same command goes on from here.")
            return INTERRUPTED
        say(sentence(recipe.name, outcome))
    return 0


def say(line: str) -> None:
    """Print a line once, however many processes train."""
    if is_first_process():
        print(line, flush=True)


def is_first_process() -> bool:
    """Whether this is the process that the user started, or the first of those that a launcher started."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def sentence(name: str, outcome: dict) -> str:
    """One line that says how the loss moved."""
    before, after = outcome["loss_before"], outcome["loss_after"]
    moved = "no loss was logged" if before is None else f"loss {before:.4g} -> {after:.4g}"
    valid = outcome["validation_loss"]
    held_back = "" if valid is None else f" (held-back music: {valid:.4g})"
    return f"{name}: {moved}{held_back} after {outcome['steps']} steps, {outcome['seconds']:.0f} s"


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
        parameters, steps = count_parameters(recipe), planned_steps(recipe)
        seconds = recipe.cost.get("seconds_per_step")
        minutes = "not measured" if seconds is None else f"{steps * seconds / 60:.1f}"
        state = "finished" if read_finished(run / recipe.name) else "to do"
        disk = f"{parameters * BYTES_PER_PARAMETER / 2**20:.1f} MiB"
        table.add_row(recipe.name, state, f"{parameters / 1e6:.2f} M" if parameters else "-", str(steps), minutes, disk)
    console = Console()
    Console(width=max(console.width, 120)).print(table)


def quieten() -> None:
    """Keep libraries' start-up remarks out of the way of progress bars and of the one line a stage ends with."""
    import logging
    import warnings

    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "diffusers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _differences(folder: Path, made_from: "Fingerprint") -> list[str]:
    """What a finished stage, or the configuration of a begun one, has that the stage to be trained has not."""
    from melody_cm.storage import read_json

    for name in ("finished.json", "begun.json"):
        if (folder / name).is_file():
            return made_from.differences(read_json(folder / name))
    return []


def _replace(folder: Path, made_from: "Fingerprint") -> None:
    """Remove a stage that is to be trained anew; one process does, the others wait until it is gone."""
    if is_first_process():
        shutil.rmtree(folder)
    while _differences(folder, made_from):
        time.sleep(0.05)


def _ask_for_size() -> str:
    raise ValueError(
        "--size must be said: tiny (about a minute a stage on 2 CPU cores, only proves the path), "
        "cpu (2-3 M parameters, about an hour a stage on 2 cores), "
        "small (18-25 M, about 10 minutes a stage on one large GPU), paper (weeks on many)"
    )
