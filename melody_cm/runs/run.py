"""A run: its stages trained in order, each skipped where it is finished, resumed where it was begun."""

import logging
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melody_cm.configuration import read_yaml, shipped
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.runs.fingerprint import Fingerprint, check_finished, check_inputs, fingerprint, read_finished, read_state
from melody_cm.runs.plan import plan
from melody_cm.runs.processes import is_first_process, one_training, say, wait_until
from melody_cm.runs.recipe import Recipe, Setting, build_data
from melody_cm.runs.systems import open_system, preset_of
from melody_cm.runs.training import Training
from melody_cm.runs.weights import StartingWeights
from melody_cm.storage import enter_run, stage_folder, sweep


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
    start_from: Path | str | None = None,
) -> "Run":
    """Train one stage (a recipe file), or all stages that a system needs (a folder of recipes).

    Args:
        recipe: a YAML file, a folder, or the name under which one ships ("melody", "melody/4_semantic_lm").
        run: a `Run`, or its folder.
        size, machine, corpus, overrides: as in `Setting`.
        retrain: start again with stages that are unfinished or were made from other settings or data.
        start_from: fine-tune: a system (folder of an export, "demo:NAME" or "owner/name") whose weights the stages
            start with, and whose networks stand in for stages that the run lacks.

    Returns:
        the run.

    Raises:
        Interrupted: a signal asked to stop.
        FileNotFoundError, ValueError: a recipe that cannot be composed; a stage that was made from something else.
    """
    run = run if isinstance(run, Run) else Run(run)
    run.train(plan(recipe, Setting(size, machine, corpus, overrides)), retrain, start_from)
    return run


def finish(folder: Path | str) -> None:
    """End a stage where its last.ckpt stands; see `Run.finish`. The folder is RUNS/RUN/SYSTEM/STAGE, and a
    FileNotFoundError or ValueError says if it is no stage that was begun by this version, or cannot be finished."""
    folder = Path(folder)
    stage = (read_state(folder / "begun.json") or {}).get("stage")
    if not isinstance(stage, str) or not folder.resolve().as_posix().endswith(f"/{stage}"):
        raise FileNotFoundError(
            f"{folder} is no stage that this melody-cm began; give RUNS/RUN/SYSTEM/STAGE, after `melody-cm train` "
            "went on with it for a moment if an older version began it"
        )
    Run(folder.resolve().parents[len(Path(stage).parts) - 1]).finish(stage)


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

    def train(self, recipes: Sequence[Recipe], retrain: bool = False, start_from: Path | str | None = None) -> None:
        """Train stages in order, skipping those that are finished and would come out the same.

        Args:
            retrain, start_from: as in `melody_cm.train`.

        Raises:
            Interrupted: a signal asked to stop.
            ValueError: a finished or begun stage was made from something else, and `retrain` was not asked for; weights
                to start from that do not fit.
        """
        self.enter()
        quieten()
        start = None if start_from is None else StartingWeights(start_from)
        with self.training_alone():
            if start is not None:
                trained = {recipe.name for recipe in recipes}
                needs = [need for recipe in recipes for need in recipe.needs if need not in trained]
                start.adopt([*needs, *_untouched(start.stages, trained, recipes[0].size)], self.path)
            for recipe in recipes:
                train_one(recipe, self.folder(recipe.name), retrain, start)

    def finish(self, stage: str) -> None:
        """End a stage where its last.ckpt stands, export it and call it finished, with the steps that it has taken; of
        a finished stage, write the export again.

        Raises:
            FileNotFoundError: it has no last.ckpt.
            ValueError: what it is made from is not what it was.
        """
        folder = self.folder(stage)
        for name in ("last.ckpt", "config.yaml", "begun.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} has no {name}: there is nothing to finish; train it first")
        self.enter()
        quieten()
        with self.training_alone():
            begun = read_state(folder / "begun.json") or {}
            recipe = Recipe(
                stage, folder / "config.yaml", str(begun.get("size")), {}, read_yaml(folder / "config.yaml")
            )
            made_from = fingerprint(recipe)
            made_from.start = begun.get("start") or {}
            if changed := made_from.differences(begun):
                raise ValueError(f"{folder} was made from something else: {shortened(changed)}; it cannot be finished")
            outcome = Training(recipe, folder, end_now=True).fit(made_from)
            if outcome is not None:
                say(sentence(stage, outcome))

    def check(self, recipes: Sequence[Recipe]) -> None:
        """Refuse to judge a run that is not what a command says, or whose stages do not belong together.

        A FileNotFoundError or ValueError if a stage is missing, was trained at another size or on other music, or reads
        a stage that has been trained again since.
        """
        self.enter()
        for recipe in recipes:
            folder = stage_folder(recipe.name)
            done = read_finished(folder) or {}
            if "adopted" in done:  # It was made elsewhere.
                continue
            if (size := done.get("outcome", {}).get("size")) != recipe.size:
                raise ValueError(f"{folder} was trained at size {size}, not {recipe.size}; say --size {size}")
            if done.get("data") != build_data(recipe.config["data"]).fingerprint():
                raise ValueError(f"{folder} was trained on other music; give the --corpus that it was trained on")
            check_inputs(recipe.name)

    @contextmanager
    def training_alone(self) -> Iterator[None]:
        """Keep a second command from training the same run, by a ValueError; the processes of one training share its
        lock."""
        with one_training(self.path):
            if is_first_process():
                sweep(self.path)
            yield


def _untouched(stages: Sequence[str], trained: set[str], size: str) -> list[str]:
    """Those of a system's stages that read nothing of what is trained, and so stay as good as they are: with them the
    tuned system is whole."""

    def reads_trained(stage: str) -> bool:
        return stage in trained or any(map(reads_trained, Setting(size).compose(stage).needs))

    return [stage for stage in stages if shipped(f"recipes/{stage}.yaml").is_file() and not reads_trained(stage)]


def train_one(recipe: Recipe, folder: Path, retrain: bool, start: StartingWeights | None = None) -> None:
    """Train, resume or skip one stage, whose networks begin with `start`.

    `Interrupted` if a signal or the time asked to stop, during the stage or just after it; a ValueError if it was made
    from something else, or is damaged, and `retrain` was not asked for.
    """
    made_from = fingerprint(recipe)
    if start is not None:
        made_from.start = start.hashes(recipe.name)
    old = None
    try:
        refuse_other(folder, made_from)
        if is_done(folder, made_from):
            check_finished(folder)
            say(f"{recipe.name}: finished before{early_end(folder)}, skipped")
            return
        if retrain and (folder / "last.ckpt").exists():
            old = set_aside(folder)
    except ValueError:
        if not retrain:
            raise
        old = set_aside(folder)
    if recipe.foreign:
        say(f"{recipe.name}: runs code from outside melody_cm: {', '.join(recipe.foreign)}")
    try:
        training = Training(recipe, folder, start)
        outcome = training.fit(made_from)
    except BaseException:
        put_back(folder, old)
        raise
    same = f"The same command{' without --retrain' if retrain else ''} goes on from here."
    if outcome is None:
        say(f"{recipe.name}: interrupted; saved after {training.steps_taken} steps. {same}")
        raise Interrupted
    if is_first_process():
        for kept in kept_aside(folder):
            shutil.rmtree(kept, ignore_errors=True)
    say(sentence(recipe.name, outcome))
    if training.checkpoint.signalled:
        say("stopped after this stage, as the signal asked. The same command goes on from here.")
        raise Interrupted


def refuse_other(folder: Path, made_from: Fingerprint) -> None:
    """Refuse with a ValueError a finished stage, or one with a checkpoint to go on from, that was made from something
    else, or whose state files are damaged. That it is to have more steps than before is no hindrance: it goes on
    from its last.ckpt."""
    known, last = read_finished(folder), (folder / "last.ckpt").is_file()
    if (folder / "last.ckpt").exists() and not last:
        raise ValueError(f"{folder / 'last.ckpt'} is no file; train this stage with --retrain, which keeps it aside")
    begun = read_state(folder / "begun.json") if last else None
    state = begun if known is None else known
    if state is None or (last and made_from.only_wants_more_steps(state)):
        return
    if changed := made_from.differences(state):
        raise ValueError(
            f"{folder} was made from something else: {shortened(changed)}. Use train with --retrain to replace it, or "
            "another --run"
        )


def is_done(folder: Path, made_from: Fingerprint) -> bool:
    """Whether a stage is finished, as it would come out now."""
    known = read_finished(folder)
    return known is not None and not made_from.differences(known)


def shortened(lines: Sequence[str]) -> str:
    """The first differences."""
    return "; ".join(lines[:4]) + (" ..." if len(lines) > 4 else "")


def kept_aside(folder: Path) -> tuple[Path, Path]:
    """Where a stage waits until its successor is finished; and a successor that was replaced before it was finished."""
    return folder.with_name(f".{folder.name}.replaced"), folder.with_name(f".{folder.name}.unfinished")


def set_aside(folder: Path) -> Path:
    """Move a stage that is to be trained anew; it is deleted when its successor is finished. One process moves it."""
    old, unfinished = kept_aside(folder)
    if old.exists() and not (folder / "finished.json").exists():  # A finished stage is kept before an unfinished one.
        old = unfinished
    if is_first_process():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    states = [folder / name for name in ("finished.json", "last.ckpt")]
    wait_until(
        lambda: not any(state.exists() for state in states), f"{folder} could not be moved away; move it by hand"
    )
    return old


def put_back(folder: Path, old: Path | None) -> None:
    """Undo `set_aside` if its successor came to nothing."""
    if old is not None and old.is_dir() and is_first_process() and not (folder / "last.ckpt").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        old.rename(folder)


def sentence(name: str, outcome: dict[str, Any]) -> str:
    """One line that says how the loss moved."""
    before, after = outcome["loss_before"], outcome["loss_after"]
    moved = "no loss was logged" if before is None else f"loss {before:.4g} -> {after:.4g}"
    if before is not None and before == after:  # One step was logged.
        moved = f"loss {before:.4g}"
    valid = outcome["validation_loss"]
    held_back = "" if valid is None else f" (held-back music: {valid:.4g})"
    steps = f"{outcome['steps']} steps" if outcome["ended_by"] is None else ended_by(outcome)
    skipped = f", {outcome['skipped_steps']} left out" if outcome["skipped_steps"] else ""
    return f"{name}: {moved}{held_back} after {steps}{skipped}, {outcome['seconds']:.0f} s"


def ended_by(outcome: dict[str, Any]) -> str:
    """The steps of a stage that did not take all that were planned."""
    return f"{outcome['steps']} of {outcome['planned_steps']} steps, ended by {outcome['ended_by']}"


def early_end(folder: Path) -> str:
    """What is to be known of a finished stage that did not take all steps, and how it takes more."""
    outcome = (read_finished(folder) or {})["outcome"]
    if outcome.get("ended_by") is None or not {"steps", "planned_steps"} <= outcome.keys():
        return ""
    return f" after {ended_by(outcome)} (--trainer.max_steps above {outcome['planned_steps']} goes on)"


def quieten() -> None:
    """Keep libraries' start-up remarks out of the way of progress bars and of the one line a stage ends with."""
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "diffusers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", category=FutureWarning)


def open_source(source: str) -> PretrainedPipeline:
    """A system of any source: a folder written by `melody-cm export`, RUNS/RUN/SYSTEM, demo:NAME or owner/name; a
    FileNotFoundError or ValueError if there is none."""
    folder = Path(source)
    if not (folder / "config.json").is_file() and any(folder.parent.glob("*/*/finished.json")):
        return Run(folder.parent).pipeline(folder.name)
    return PretrainedPipeline.from_pretrained(source)
