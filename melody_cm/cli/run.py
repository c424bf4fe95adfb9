"""A run: its stages trained in order, each skipped where it is finished, resumed where it was begun."""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melody_cm.cli.finished import Fingerprint, fingerprint, read_finished, stage_weights
from melody_cm.cli.recipe import Recipe
from melody_cm.cli.training import build_data, train_stage
from melody_cm.storage import enter_run, read_json, stage_folder

INTERRUPTED = 130


def run_folder(runs: Path, name: str) -> Path:
    """The folder of a run, which frozen stages are looked up in from now on."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"--run {name!r} cannot name a run; use letters, digits, - and _")
    enter_run(runs / name)
    return runs / name


def train_all(recipes: Sequence[Recipe], run: Path, retrain: bool = False) -> int:
    """Train the stages of a run in order, skipping those that are finished and would come out the same.

    Raises:
        ValueError: a finished or begun stage was made from something else, and `retrain` was not asked for.
    """
    enter_run(run)
    quieten()
    with locked(run):
        for recipe in recipes:
            if train_one(recipe, run / recipe.name, retrain):
                return INTERRUPTED
    return 0


def train_one(recipe: Recipe, folder: Path, retrain: bool) -> bool:
    """Train, resume or skip one stage; whether a signal asked to stop."""
    made_from = fingerprint(recipe, build_data(recipe.config["data"]).fingerprint())
    if (changed := differences(folder, made_from)) and not retrain:
        raise ValueError(
            f"{folder} was made from something else: {'; '.join(changed[:4])}"
            f"{' ...' if len(changed) > 4 else ''}. Use train with --retrain to replace it, or another --run"
        )
    if read_finished(folder) is not None and not changed:
        say(f"{recipe.name}: finished before, skipped")
        return False
    old = set_aside(folder, made_from) if changed else None
    try:
        outcome, stopped = train_stage(recipe, folder, made_from)
    except BaseException:
        put_back(folder, old)
        raise
    if outcome is None:
        say(f"{recipe.name}: interrupted; saved. The same command goes on from here.")
        return True
    if old is not None and is_first_process():
        shutil.rmtree(old, ignore_errors=True)
    say(sentence(recipe.name, outcome))
    if stopped:
        say("stopped after this stage, as the signal asked. The same command goes on from here.")
    return stopped


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep a second command from training the same run; the processes of one training share its lock."""
    if not is_first_process():
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{run} is being trained by another command; wait for it, or use another --run") from error
        yield


def check_run(recipes: Sequence[Recipe], run: Path) -> None:
    """Refuse to judge a run that is not what the command says, or whose stages do not belong together.

    Raises:
        FileNotFoundError, ValueError: a stage is missing, was trained at another size or on other music, or reads a
            stage that has been trained again since.
    """
    for recipe in recipes:
        stage_folder(recipe.name)
        done = read_finished(run / recipe.name) or {}
        if (size := done["outcome"]["size"]) != recipe.size:
            raise ValueError(f"{run / recipe.name} was trained at size {size}, not {recipe.size}; say --size {size}")
        if done["data"] != build_data(recipe.config["data"]).fingerprint():
            raise ValueError(
                f"{run / recipe.name} was trained on other music; give the --corpus that it was trained on"
            )
        check_inputs(recipe.name)


def check_inputs(stage: str) -> None:
    """Refuse a stage that was trained on an earlier version of what it reads."""
    for needed, weights in read_json(stage_folder(stage) / "finished.json")["inputs"].items():
        if stage_weights(needed) != weights:
            raise ValueError(f"{stage} was trained on an earlier {needed}; train {stage} again with --retrain")
        check_inputs(needed)


def differences(folder: Path, made_from: Fingerprint) -> list[str]:
    """What a finished stage, or one with a checkpoint to go on from, was made from that is different now."""
    begun = "begun.json" if (folder / "last.ckpt").is_file() else None
    for name in ("finished.json", begun):
        if name and (folder / name).is_file():
            return made_from.differences(read_json(folder / name))
    return []


def set_aside(folder: Path, made_from: Fingerprint) -> Path:
    """Move a stage that is to be trained anew; it is deleted when its successor is finished. One process moves it."""
    old = folder.with_name(f".{folder.name}.replaced")
    if is_first_process():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    deadline = time.monotonic() + 60
    while differences(folder, made_from):
        if time.monotonic() > deadline:
            raise OSError(f"{folder} could not be moved out of the way; move it by hand")
        time.sleep(0.05)
    return old


def put_back(folder: Path, old: Path | None) -> None:
    """Undo `set_aside` if its successor came to nothing."""
    if old is not None and old.is_dir() and is_first_process() and not (folder / "last.ckpt").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        old.rename(folder)


def say(line: str) -> None:
    """Print a line once, however many processes train."""
    if is_first_process():
        print(line, flush=True)


def is_first_process() -> bool:
    """Whether this is the process that the user started, or the first of those that a launcher started."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def sentence(name: str, outcome: dict[str, Any]) -> str:
    """One line that says how the loss moved."""
    before, after = outcome["loss_before"], outcome["loss_after"]
    moved = "no loss was logged" if before is None else f"loss {before:.4g} -> {after:.4g}"
    valid = outcome["validation_loss"]
    held_back = "" if valid is None else f" (held-back music: {valid:.4g})"
    return f"{name}: {moved}{held_back} after {outcome['steps']} steps, {outcome['seconds']:.0f} s"


def quieten() -> None:
    """Keep libraries' start-up remarks out of the way of progress bars and of the one line a stage ends with."""
    import logging
    import warnings

    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "diffusers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", category=FutureWarning)
