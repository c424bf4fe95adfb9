"""`melody-cm data encode`: what the frozen encoders of a recipe make of its music, computed once and kept."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.cli.recipe import Recipe

MEBIBYTE = 2**20


def add_command(commands: Any) -> None:
    """Register the subcommand below `data`."""
    from melody_cm.cli.train import add_setting

    parser = commands.add_parser(
        "encode", help="run a recipe's frozen encoders over its music once", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("recipe", type=Path, help="recipes/SYSTEM or recipes/SYSTEM/STAGE.yaml")
    add_setting(parser)
    parser.add_argument("--run", required=True, help="name of the run whose finished stages encode")
    parser.add_argument("--processes", type=_positive, help="default: one a core, or one a GPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the encoders run")
    parser.add_argument("--again", action="store_true", help="replace what was encoded before")
    parser.set_defaults(handler=encode, takes_overrides=True)


def encode(arguments: argparse.Namespace) -> int:
    """Encode for one recipe, or for all of a folder whose frozen stages are finished."""
    from melody_cm.cli.plan import Setting, plan
    from melody_cm.cli.run import locked, quieten, run_folder
    from melody_cm.cli.train import require_size

    setting = Setting(require_size(arguments.size), arguments.machine, arguments.corpus, arguments.overrides)
    recipes = plan(arguments.recipe, setting)
    run = run_folder(arguments.runs, arguments.run)
    quieten()
    options = Options(arguments.processes, arguments.device, arguments.again)
    with locked(run):
        encode_all(recipes, run, options, skip_unfinished=arguments.recipe.is_dir())
    return 0


@dataclass
class Options:
    """How to encode: processes (None: one a core or GPU), device, and whether to replace what is there."""

    processes: int | None = None
    device: str = "cpu"
    again: bool = False


def encode_all(recipes: "list[Recipe]", run: Path, options: Options, skip_unfinished: bool) -> None:
    """Encode for each recipe in turn.

    Args:
        skip_unfinished: leave out recipes whose frozen stages are still to be trained, unless that leaves none.
    """
    done: set[Path] = set()
    error: FileNotFoundError | None = None
    worked = False
    for recipe in recipes:
        try:
            encode_one(recipe, run, options, done)
            worked = True
        except FileNotFoundError as missing:
            if not skip_unfinished or recipe.stages_read == []:
                raise
            error = missing
            print(f"{recipe.name}: left out, {missing}", flush=True)
    if error is not None and not worked:
        raise error


def encode_one(recipe: "Recipe", run: Path, options: Options, done: set[Path]) -> None:
    """Encode for one recipe what is not there yet; `done` remembers what this command has made."""
    from torch import nn

    from melody_cm.cli.training import build_data
    from melody_cm.data.encoded import cache_folder, frozen_outputs
    from melody_cm.data.encoded.writing import EncodingJob
    from melody_cm.storage import build

    slots = frozen_slots(recipe)
    outputs = frozen_outputs(nn.ModuleList(build(slots)), recipe.config["data"]["sample_rate"])
    if not outputs:
        print(f"{recipe.name}: has no frozen encoder, nothing to encode", flush=True)
        return
    data = build_data(recipe.config["data"])
    job = EncodingJob(run.resolve(), slots, recipe.config["data"], cache_folder(run, recipe.config["data"]), {})
    _fill(recipe.name, job, outputs, data, options, done)


def _fill(title: str, job: Any, outputs: list[Any], data: Any, options: Options, done: set[Path]) -> None:
    """Make the outputs that are not whole behind a progress bar, and say what was made."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from melody_cm.data.encoded.filling import fill, unfinished

    started, fingerprint = time.monotonic(), data.fingerprint()
    wanted = unfinished(job, outputs, fingerprint, lambda each: options.again and job.folder / each.name not in done)
    for output in outputs:
        if output not in wanted:
            print(f"{title}: {output.name} encoded before, skipped", flush=True)
    if not wanted:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} clips"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(f"{title}: encoding", total=None)

        def show(made: int, total: int) -> None:
            bar.update(task, completed=made, total=total)

        summary = fill(job, wanted, outputs, data, fingerprint, options.device, options.processes, show)
    folders = {output.name: job.folder / output.name for output in wanted}
    done.update(folders.values())
    _report(title, folders, summary, time.monotonic() - started)


def _report(title: str, folders: dict[str, Path], summary: Any, seconds: float) -> None:
    for problem in summary.bad[:3]:
        print(f"left out a bad clip: {problem}")
    sizes = {name: sum(file.stat().st_size for file in folder.iterdir()) for name, folder in folders.items()}
    written = ", ".join(f"{name} {size / MEBIBYTE:.1f} MiB" for name, size in sizes.items())
    bad = f"; {len(summary.bad)} bad clips left out, see `melody-cm data check`" if summary.bad else ""
    print(f"{title}: encoded {summary.clips} clips in {seconds:.0f} s: {written}{bad}", flush=True)


def frozen_slots(recipe: "Recipe") -> list[Any]:
    """The parts of a recipe's model that can hold frozen encoders.

    They are networks that name a stage or a public folder, and do not denoise or predict.
    """
    from melody_cm.cli.recipe import leaves
    from melody_cm.interfaces import Denoiser, Network, TokenLM
    from melody_cm.storage import find_class

    slots = [slot for slot in recipe.config["model"]["init_args"].values() if isinstance(slot, dict)]
    named = [slot for slot in slots if "class_path" in slot and {"stage", "folder"} & {k[-1] for k, _ in leaves(slot)}]
    kinds = [(slot, find_class(slot["class_path"])) for slot in named]
    return [slot for slot, kind in kinds if issubclass(kind, Network) and not issubclass(kind, Denoiser | TokenLM)]


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; 1 or more is needed")
    return int(text)
