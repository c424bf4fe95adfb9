"""Full disks, folders that cannot be written, and files that are gone, cut or another's, at every verb."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from commands import Command, run
from kills import are_equal, training, weights
from toy_recipe import toy_recipe

COMPARED = {
    "size": "tiny", "seconds": 1.0, "prompts": ["calm piano", "slow strings"], "seeds": [0], "reference": "train",
    "embeddings": ["configs/embedding/logmel.yaml"],
    "systems": {"slow": {"pipeline": "slow_system.yaml", "num_steps": [1]}},
}  # fmt: skip
TOY_SYSTEM = {"class_path": "slow_music.SlowMusic", "init_args": {"denoiser": "stage:toy/1_autoencoder"}}


@dataclass
class Work:
    """A verb at work.

    Attributes:
        name: of the verb; words: of the command that writes to a place; made: patterns of the files that are to be
            equal, whatever happened before; prepare: what must lie at the place; weights: of what it reads.
    """

    name: str
    words: Callable[[Path], list[object]]
    made: tuple[str, ...]
    prepare: Callable[[Path], object]
    weights: Path | None

    def result(self, place: Path) -> dict[str, bytes]:
        """What it wrote."""
        found = [file for pattern in self.made for file in place.glob(pattern) if file.is_file()]
        return {file.relative_to(place).as_posix(): file.read_bytes() for file in found}


def works(trained: Path, folder: Path) -> list[Work]:
    """One for each verb that writes or reads."""
    run_copy = folder / "runs/x"
    if not run_copy.exists():
        shutil.copytree(trained, run_copy, ignore=shutil.ignore_patterns("tensorboard", "logs", "ablations"))
        _write_toys(folder)
        for words in (
            ["train", "recipes/toy", "--size", "tiny", "--run", "toy"],
            ["export", run_copy / "musiccm", folder / "system"],
        ):
            done = run(words, folder)
            if done.code:
                raise RuntimeError(done.said)
    vae = run_copy / "musiccm/1_mel_vae/export/autoencoder/autoencoder/vae/diffusion_pytorch_model.safetensors"
    vae = vae if vae.exists() else next((run_copy / "musiccm/1_mel_vae/export").rglob("*.safetensors"))
    toy = next((folder / "runs/toy").glob("toy/1_autoencoder/export/*/model.safetensors"))
    system = next((folder / "system/autoencoder").rglob("*.safetensors"))
    encode = ["data", "encode", "recipes/musiccm/3_teacher.yaml", "--size", "tiny", "--run", "x", "--processes", 1]
    generate = ["generate", folder / "system", "--prompt", "drums", "--prompt", "piano", "--seconds", 2, "--steps", 1]
    compare = ["compare", "recipes/compare/slow.yaml", "--run", "toy"]

    def finished_stages(place: Path) -> None:
        (place / "x").mkdir(parents=True, exist_ok=True)
        for system in ("shared", "musiccm"):
            if not (place / "x" / system).exists():
                (place / "x" / system).symlink_to(run_copy / system)

    nothing = lambda place: None  # noqa: E731
    return [
        Work("train", lambda place: training("plain", place), ("x/*/*/export/*/*.safetensors",), nothing, None),
        Work("export", lambda place: ["export", run_copy / "musiccm", place / "e"], ("e/**/*",), nothing, vae),
        Work("generate", lambda place: [*generate, "--out", place / "g"], ("g/*.wav",), nothing, system),
        Work("compare", lambda place: [*compare, "--out", place / "c"], ("c/audio/**/*.wav",), nothing, toy),
        Work("encode", lambda place: [*encode, "--runs", place, "--data.corpus.num_clips", 48],
             ("x/encoded/**/*.safetensors",), finished_stages, vae),
    ]  # fmt: skip


def disks(trained: Path, folder: Path) -> Iterator[tuple[str, str, str]]:
    """(fault, verb, what is wrong): full disks and read-only ones, and the same command once they are mended."""
    for work in works(trained, folder):
        good = folder / "good" / work.name
        good.mkdir(parents=True)
        work.prepare(good)
        done = run(work.words(good), folder)
        if done.code:
            yield "full disk", work.name, f"fails without a fault: {done.message}"
            continue
        right = work.result(good)
        size = sum(file.stat().st_size for file in good.rglob("*") if file.is_file() and not file.is_symlink())
        for fault, options in (("full disk", f"size={max(4096, int(0.5 * size))}"), ("read-only folder", "ro")):
            with mounted(folder / "small" / fault.replace(" ", "_") / work.name) as place:
                work.prepare(place)
                _remount(place, options)
                done = run(work.words(place), folder)
                wrong = "" if done.is_one_line else f"code {done.code}: {done.message[:200]}"
                if fault == "full disk" and not wrong and "no space" not in done.message.lower():
                    wrong = f"does not say so: {done.message[:200]}"
                _remount(place, "rw,size=1g")
                if not wrong and (again := run(work.words(place), folder)).code:
                    wrong = f"does not go on: {again.message[:200]}"
                elif not wrong and (work.result(place) != right or not right):
                    wrong = "something else comes out afterwards"
                if not wrong and (left := [path.name for path in place.rglob(".*.part")]):
                    wrong = f"left: {left[:3]}"
                yield fault, work.name, wrong


def files(trained: Path, folder: Path) -> Iterator[tuple[str, str, str]]:
    """(fault, verb, what is wrong): files that are deleted, cut, or another's, read by each verb."""
    yield from _checkpoints(trained, folder / "checkpoints")
    for work in works(trained, folder):
        if work.weights is None:
            continue
        whole = work.weights.read_bytes()
        for fault in ("deleted", "cut", "swapped"):
            place = folder / "damaged" / fault / work.name
            place.mkdir(parents=True)
            work.prepare(place)
            _damage(work.weights, fault, _other(work.weights, folder))
            done = run(work.words(place), folder)
            work.weights.write_bytes(whole)
            yield f"{fault} weights", work.name, "" if done.is_one_line else f"code {done.code}: {done.message[:200]}"


def _checkpoints(trained: Path, folder: Path) -> Iterator[tuple[str, str, str]]:
    good = folder / "good"
    good.mkdir(parents=True)
    done = run(training("plain", good), good)
    stage = next(good.glob("x/*/*"))
    right, name = weights(stage), stage.relative_to(good / "x")
    for fault in ("deleted", "cut", "swapped"):
        own = folder / fault
        own.mkdir()
        share = 0.3
        while not (own / "x" / name / "last.ckpt").exists():
            command = Command(training("plain", own), own, own / "said.txt")
            time.sleep(share * done.seconds)
            command.kill(signal.SIGTERM)
            command.wait()
            share += 0.1
        _damage(own / "x" / name / "last.ckpt", fault, trained / name / "last.ckpt")
        first = run(training("plain", own), own)
        wrong = "" if fault == "deleted" or first.is_one_line else f"code {first.code}: {first.message[:200]}"
        if fault != "deleted":
            run([*training("plain", own), "--retrain"], own)
        if not wrong and not are_equal(weights(own / "x" / name), right):
            wrong = "other weights afterwards"
        yield f"{fault} last.ckpt", "train", wrong


def _damage(file: Path, fault: str, other: Path) -> None:
    if fault == "deleted":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[: int(0.7 * file.stat().st_size)])
    else:
        shutil.copyfile(other, file)


def _other(file: Path, folder: Path) -> Path:
    return next(path for path in sorted((folder / "runs/x/shared").rglob("*.safetensors")) if path.name != file)


def _write_toys(folder: Path) -> None:
    parts = {
        "recipes/toy/1_autoencoder.yaml": toy_recipe(max_steps=2),
        "recipes/compare/slow.yaml": COMPARED,
        "recipes/compare/slow_system.yaml": TOY_SYSTEM,
    }
    for name, content in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(content))


def can_mount() -> bool:
    """Whether small and read-only disks can be made here."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A disk in memory at a place."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
