"""Trains stages of size tiny for three steps in one process and in two, and says how far their weights part.

python tests/faults/one_and_two.py RUN [STAGE ...]     RUN: with all stages at size tiny
"""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "faults")]
for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(name, value)

import torch  # noqa: E402
from commands import Command  # noqa: E402
from kills import RANKS, new_run  # noqa: E402
from two_steps import STAGES  # noqa: E402

STEPS = 3
FITTED = ("melody/2_semantic_tokenizer", "melody/3_joint_tokenizer")  # By clustering, not by steps.
CORPUS = ["--data.corpus.num_clips", 48]


def state(stage: str, trained: Path, folder: Path, processes: int) -> dict[str, torch.Tensor]:
    """All floating-point tensors of a stage's last.ckpt after its steps.

    Raises:
        RuntimeError: a process failed; the message says what it printed.
    """
    folder.mkdir()
    place = new_run(stage, trained, folder)
    words = ["train", f"recipes/{stage}.yaml", "--size", "tiny", "--runs", folder, "--run", "x", *CORPUS]
    if stage not in FITTED:
        words += ["--trainer.max_steps", STEPS, "--trainer.val_check_interval", STEPS]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
    started = []
    for rank in range(processes):
        if processes > 1:
            os.environ |= launched | {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        started.append(Command([*words, *(RANKS if processes > 1 else [])], folder, folder / f"said{rank}.txt"))
    for name in (*launched, "LOCAL_RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    for done in [command.wait(600) for command in started]:
        if done.code:
            raise RuntimeError(f"{stage} in {processes}: {done.said[-600:]}")
    checkpoint = torch.load(place / "last.ckpt", weights_only=True)
    return {name: value for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}


def parted(stage: str, trained: Path, folder: Path) -> Iterator[tuple[str, float, float]]:
    """For each network of a stage: its name, how far its weights are apart on average and at most."""
    one, two = (state(stage, trained, folder / str(processes), processes) for processes in (1, 2))
    apart: dict[str, list[torch.Tensor]] = {}
    for name, value in one.items():
        network = ".".join(name.split(".")[:2])
        apart.setdefault(network, []).append((value.double() - two[name].double()).abs().flatten())
    for network, values in apart.items():
        together = torch.cat(values)
        if together.numel():
            yield network, float(together.mean()), float(together.max())


def main() -> None:
    """Print a line for each network of each stage."""
    trained, *stages = sys.argv[1:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.environ.setdefault("MELODY_CM_CACHE", f"{scratch}/cache")
        for number, stage in enumerate(stages or STAGES):
            (folder := Path(scratch) / str(number)).mkdir()
            for network, mean, most in parted(stage, Path(trained).resolve(), folder):
                print(f"{stage:40} {network:40} mean {mean:.1e} max {most:.1e}", flush=True)


if __name__ == "__main__":
    main()
