"""Trainings that are killed at random moments, and go on to the weights that they would have had."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import torch
from commands import Command, run
from safetensors.torch import load_file

STAGES = {"plain": "shared/1_joint_embedding", "adversarial": "melody/5_audio_vae_gan",
          "distillation": "musiccm/4_consistency_distillation"}  # fmt: skip
STEPS = {"plain": 24, "adversarial": 12, "distillation": 6}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
RANKS = ["--trainer.devices", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"]
PATIENCE = 60


def training(kind: str, runs: Path) -> list[object]:
    """The command that trains a stage for some steps, with a checkpoint after each quarter of them."""
    steps = STEPS[kind]
    more = ["--trainer.max_steps", steps, "--trainer.val_check_interval", steps, "--trainer.log_every_n_steps", 1]
    corpus = ["--data.corpus.num_clips", 48]
    return ["train", f"recipes/{STAGES[kind]}.yaml", "--size", "tiny", "--runs", runs, "--run", "x", *corpus, *more]


def new_run(wanted: str, trained: Path, runs: Path) -> Path:
    """A run in which all is finished but one stage; returns the folder of that."""
    for stage in [path.parent for path in trained.glob("*/*/finished.json")]:
        name = stage.relative_to(trained).as_posix()
        if name != wanted:
            (runs / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            (runs / "x" / name).symlink_to(stage)
    return runs / "x" / wanted


def weights(stage: Path) -> dict[str, torch.Tensor]:
    """All that a stage exported."""
    return {
        f"{file.relative_to(stage)}/{name}": value
        for file in sorted((stage / "export").rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and len(one) > 0 and all(torch.equal(one[name], other[name]) for name in one)


def undisturbed(kind: str, trained: Path, folder: Path) -> tuple[Path, float]:
    """The folder of a stage that nothing disturbs, and how long its training takes."""
    folder.mkdir(parents=True)
    stage = new_run(STAGES[kind], trained, folder)
    done = run(training(kind, folder), folder)
    if done.code:
        raise RuntimeError(f"{kind}: {done.message}")
    return stage, done.seconds


def killed(
    kind: str, trained: Path, folder: Path, right: Path, seconds: float, seed: int, number: int
) -> tuple[int, str]:
    """The kills that met a process which trained, and what is wrong with its end ("" for nothing).

    A training is met by each of the signals once, in a random order, each at a random moment of what is left of it;
    then it goes on to its end, which is to be that of the stage in `right`, whose training took some seconds.
    """
    rng, own = Random(f"{kind}/{seed}/{number}"), folder / str(number)
    own.mkdir()
    stage = new_run(STAGES[kind], trained, own)
    met, wrong = 0, ""
    for signum in rng.sample(SIGNALS, len(SIGNALS)):
        command = Command(training(kind, own), own, own / "said.txt")
        time.sleep(rng.uniform(0.0, 0.7 * seconds))
        command.kill(signum)
        done = command.wait()
        met += done.code != 0
        if done.code not in (0, 130, -signum):
            wrong = wrong or f"{signum.name}: code {done.code}, {done.message[:200]}"
    done = run(training(kind, own), own)
    if done.code:
        wrong = wrong or f"does not go on: {done.message[:200]}"
    elif not are_equal(weights(stage), weights(right)):
        wrong = wrong or "other weights"
    if left := [path.name for path in own.rglob(".*") if path.name.endswith((".part", ".lock", ".first"))]:
        wrong = wrong or f"left: {left[:3]}"
    return met, wrong


def one_of_two(victim: int, folder: Path) -> tuple[float, str]:
    """Kill one of the two processes of a training; how long the other lived, and what is wrong ("" for nothing)."""
    words = [
        *map(str, training("plain", folder)),
        *RANKS,
        "--trainer.max_steps",
        "100000",
        "--trainer.val_check_interval",
    ]
    words += ["100000"]
    log = (folder / "said.txt").open("w")
    command = str(Path(sys.executable).parent / "melody-cm")
    first = subprocess.Popen([command, *words], cwd=folder, stdout=log, stderr=log, start_new_session=True)
    metrics = folder / "x" / STAGES["plain"] / "logs"
    try:
        deadline = time.monotonic() + 240
        while not any(file.stat().st_size > 500 for file in metrics.rglob("metrics.csv")):
            if first.poll() is not None or time.monotonic() > deadline:
                return 0.0, f"never trained: {(folder / 'said.txt').read_text()[-300:]}"
            time.sleep(0.5)
        second = _child_that_trains(first.pid)
        os.kill(second if victim else first.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        other = first.pid if victim else second
        while _is_alive(other, first):
            if time.monotonic() - killed_at > 2 * PATIENCE:
                return 2.0 * PATIENCE, "the other goes on"
            time.sleep(0.2)
        lived = time.monotonic() - killed_at
        return lived, "" if lived <= PATIENCE else f"the other lived for {lived:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def _child_that_trains(process: int) -> int:
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        if b"LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise RuntimeError("there is no second process")


def _is_alive(process: int, first: subprocess.Popen) -> bool:
    if process == first.pid:
        return first.poll() is None
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False
