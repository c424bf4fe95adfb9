"""A run: its stages trained in order, each skipped where it is finished, resumed where it was begun."""

import fcntl
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melody_cm.interfaces import Pipeline
from melody_cm.runs.fingerprint import Fingerprint, check_inputs, fingerprint, read_finished
from melody_cm.runs.plan import plan
from melody_cm.runs.recipe import Recipe, Setting, build_data
from melody_cm.runs.systems import open_system, preset_of
from melody_cm.runs.training import Training
from melody_cm.storage import enter_run, read_json, stage_folder


class Interrupted(KeyboardInterrupt):
    """A signal stopped a training; what was done is saved, and the same command goes on from there."""


def train(
    recipe: Path | str,
    run: "Run | Path | str",
    size: str,
    machine: str = "cpu",
    corpus: str | None = None,
    overrides: Sequence[str] = (),
    retrain: bool = False,
) -> "Run":
    """Train a recipe, or what a folder of recipes means, with everything that a folder needs.

    Args:
        recipe: a YAML file, a folder, or the name under which one ships ("melody", "melody/4_semantic_lm").
        run: a `Run`, or its folder.
        size, machine, corpus, overrides: as in `Setting`.
        retrain: train finished stages again if they would differ now.

    Returns:
        the run.

    Raises:
        Interrupted: a signal asked to stop.
        FileNotFoundError, ValueError: a recipe that cannot be composed; a stage that was made from something else.
    """
    run = run if isinstance(run, Run) else Run(run)
    run.train(plan(recipe, Setting(size, machine, corpus, overrides)), retrain)
    return run


class Run:
    """A folder of stages: SYSTEM/STAGE/ each with logs, last.ckpt, export/ and finished.json.

    Args:
        path: RUNS/NAME; made when something is trained.

    Raises:
        ValueError: a name that is no plain word.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"--run {self.name!r} cannot name a run; use letters, digits, - and _")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    def enter(self) -> "Run":
        """From now on finished stages are looked up here; returns the run."""
        enter_run(self.path)
        return self

    def folder(self, stage: str) -> Path:
        """Where a stage ("system/stage") lies."""
        return self.path / stage

    def finished(self, stage: str) -> dict[str, Any] | None:
        """What a stage's finished.json says; None if the stage is not finished."""
        return read_finished(self.folder(stage))

    def pipeline(self, system: str | Path) -> Pipeline:
        """A system built from the finished stages of this run.

        Args:
            system: "melody", "melody_cm", "musiccm", "musiclm", ... (configs/pipeline), or the path of a preset.

        Raises:
            FileNotFoundError, ValueError: as `open_system`; no such system.
        """
        self.enter()
        return open_system(preset_of(system))

    def train(self, recipes: Sequence[Recipe], retrain: bool = False) -> None:
        """Train stages in order, skipping those that are finished and would come out the same.

        Raises:
            Interrupted: a signal asked to stop.
            ValueError: a finished or begun stage was made from something else, and `retrain` was not asked for.
        """
        self.enter()
        quieten()
        with self.locked():
            for recipe in recipes:
                train_one(recipe, self.folder(recipe.name), retrain)

    def check(self, recipes: Sequence[Recipe]) -> None:
        """Refuse to judge a run that is not what a command says, or whose stages do not belong together.

        Raises:
            FileNotFoundError, ValueError: a stage is missing, was trained at another size or on other music, or reads
                a stage that has been trained again since.
        """
        self.enter()
        for recipe in recipes:
            folder = stage_folder(recipe.name)
            done = read_finished(folder) or {}
            if (size := done["outcome"]["size"]) != recipe.size:
                raise ValueError(f"{folder} was trained at size {size}, not {recipe.size}; say --size {size}")
            if done["data"] != build_data(recipe.config["data"]).fingerprint():
                raise ValueError(f"{folder} was trained on other music; give the --corpus that it was trained on")
            check_inputs(recipe.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second command from training the same run; the processes of one training share its lock.

        Raises:
            ValueError: another command trains it.
        """
        if not is_first_process():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"{self.path} is being trained by another command; wait for it, or use another --run"
                ) from error
            yield


def train_one(recipe: Recipe, folder: Path, retrain: bool) -> None:
    """Train, resume or skip one stage.

    Raises:
        Interrupted: a signal asked to stop, during the stage or just after it.
        ValueError: it was made from something else, and `retrain` was not asked for.
    """
    made_from = fingerprint(recipe, build_data(recipe.config["data"]).fingerprint())
    if (changed := differences(folder, made_from)) and not retrain:
        raise ValueError(
            f"{folder} was made from something else: {'; '.join(changed[:4])}"
            f"{' ...' if len(changed) > 4 else ''}. Use train with --retrain to replace it, or another --run"
        )
    if read_finished(folder) is not None and not changed:
        say(f"{recipe.name}: finished before, skipped")
        return
    old = set_aside(folder, made_from) if changed else None
    try:
        training = Training.of(recipe, folder)
        outcome = training.fit(made_from)
    except BaseException:
        put_back(folder, old)
        raise
    if outcome is None:
        say(f"{recipe.name}: interrupted; saved. The same command goes on from here.")
        raise Interrupted
    if old is not None and is_first_process():
        shutil.rmtree(old, ignore_errors=True)
    say(sentence(recipe.name, outcome))
    if training.checkpoint.signalled:
        say("stopped after this stage, as the signal asked. The same command goes on from here.")
        raise Interrupted


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
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "diffusers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", category=FutureWarning)
