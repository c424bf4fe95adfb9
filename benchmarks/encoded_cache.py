"""How much faster do MusicCM's stages train from the encoded cache (`melody-cm data encode`)? Goals: the teacher 1.9
times, consistency distillation 1.45 times as many clips a second (arXiv 2404.13358; 1 / (1 - share of the encoder)).

    python benchmarks/encoded_cache.py --narrower 4 --pairs 7

The networks are the paper's with all channels divided by --narrower, so that U-Net, mel-VAE and the captions' network
keep the paper's proportion of work (counted and printed); 1 is the paper's size. A step is all that training does:
reading clips, encoding or reading what was encoded, loss, gradient, optimizer, averages. Steps with and without the
cache take turns. Printed: clips a second, the median of the pairs' ratios and their range, by wall time and by CPU time
of the process (on a busy machine the more reliable of the two).
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch.utils.flop_counter import FlopCounterMode

from melody_cm.batch import MusicBatch
from melody_cm.data import write_corpus
from melody_cm.data.encoded import encoded_folder, find_encoded
from melody_cm.evaluation.provenance import describe_machine
from melody_cm.interfaces import Network
from melody_cm.runs import Recipe, Run, Setting
from melody_cm.runs.encode import encode
from melody_cm.runs.training import build_stage
from melody_cm.storage import build, save_network, write_json

GOALS = {"musiccm/3_teacher": 1.9, "musiccm/4_consistency_distillation": 1.45}
TOWERS = {"audio_width": 768, "audio_heads": 12, "text_width": 768, "text_heads": 12}
WIDTHS = ([128, 256, 512], [128, 256, 384, 640])  # Of the mel-VAE and of the U-Net.


def finish(run: Path, stage: str, **networks: Network) -> None:
    """Declare untrained networks a finished stage: speed does not depend on the weights."""
    for slot, network in networks.items():
        save_network(network, run / stage / "export" / slot)
    write_json(run / stage / "finished.json", {})


def prepare(run: Path, corpus: Path, arguments: argparse.Namespace) -> list[Recipe]:
    """The stages that the two measured ones read, and the recipes of these two."""

    def recipe(stage: str, *overrides: str) -> Recipe:
        sizes = ["--data.seconds", str(arguments.seconds), "--data.batch_size", str(arguments.batch)]
        return Setting("paper", corpus=str(corpus), overrides=[*sizes, *overrides]).compose(stage)

    def network(made: Recipe, slot: str) -> Network:
        return build(made.config["model"]["init_args"][slot])

    narrow = [f"[{', '.join(str(width // arguments.narrower) for width in widths)}]" for widths in WIDTHS]
    towers = itertools.chain(
        *((f"--model.joint_embedding.{name}", str(n // arguments.narrower)) for name, n in TOWERS.items())
    )
    joint = recipe("shared/1_joint_embedding", *towers)
    finish(run, "shared/1_joint_embedding", joint_embedding=network(joint, "joint_embedding"))
    vae = recipe("musiccm/1_mel_vae", "--model.autoencoder.block_out_channels", narrow[0])
    finish(run, "musiccm/1_mel_vae", autoencoder=network(vae, "autoencoder"))
    teacher = recipe("musiccm/3_teacher", "--model.denoiser.network.channels", narrow[1])
    finish(run, "musiccm/3_teacher", **{slot: network(teacher, slot) for slot in ("denoiser", "conditioner")})
    return [teacher, recipe("musiccm/4_consistency_distillation")]


def train_step(model: LightningModule, optimizer: torch.optim.Optimizer, batches: Iterator[MusicBatch]) -> None:
    """Everything between two steps of a training."""
    loss = torch.stack(list(model.losses(model.trained, next(batches)).values())).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    model.steps_taken += 1
    model.after_step()


def timed(model: LightningModule, optimizer: torch.optim.Optimizer, batches: Iterator[MusicBatch], steps: int) -> tuple:
    """Wall and CPU seconds of some steps."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        train_step(model, optimizer, batches)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(recipe: Recipe, run: Path, arguments: argparse.Namespace) -> None:
    """Take turns and print."""
    model, data = build_stage(recipe)
    optimizer, _ = model.optimization.build(model.trained.parameters(), 1000)
    heard = iter(data.train_dataloader())
    data.encoded = find_encoded(encoded_folder(run, recipe.config["data"]), model, data.sample_rate, data.fingerprint)
    cached = iter(data.train_dataloader())
    print_work(model, next(heard), next(cached))
    pairs = []
    for pair in range(arguments.pairs + 1):  # The first warms up.
        both = [timed(model, optimizer, batches, arguments.steps) for batches in (heard, cached)]
        if pair:
            pairs.append(both)
    clips = arguments.steps * arguments.batch
    for column, clock in enumerate(("wall", "CPU")):
        ratios = [without[column] / within[column] for without, within in pairs]
        rates = [statistics.median(clips / pair[side][column] for pair in pairs) for side in (0, 1)]
        print(
            f"{recipe.name} by {clock} time: {rates[0]:.3f} clips/s without, {rates[1]:.3f} with; "
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f}, {len(ratios)} pairs, "
            f"goal {GOALS[recipe.name]}x)",
            flush=True,
        )


def print_work(model: LightningModule, heard: MusicBatch, cached: MusicBatch) -> None:
    """Count what a step computes with and without the cache, a clip."""
    work = []
    for batch in (heard, cached):
        with FlopCounterMode(display=False) as counter:
            torch.stack(list(model.losses(model.trained, batch).values())).sum().backward()
        work.append(counter.get_total_flops() / len(batch) / 1e9)
    print(
        f"GFLOP a clip: {work[0]:.1f} without, {work[1]:.1f} with the cache; ratio {work[0] / work[1]:.2f}", flush=True
    )


def main() -> None:
    """Measure both stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--narrower", type=int, default=4, help="divides all channels; 1 is the paper's size")
    parser.add_argument("--seconds", type=float, default=10.24)
    parser.add_argument("--clips", type=int, default=24, help="in the corpus, which is encoded once before")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1, help="in each turn")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(describe_machine(), f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        run, corpus = Path(folder) / "run", Path(folder) / "corpus"
        write_corpus(corpus, arguments.clips, seconds=arguments.seconds, sample_rate=16000)
        Run(run).enter()
        recipes = prepare(run, corpus, arguments)
        encode(recipes[:1], Run(run), processes=1)
        for recipe in recipes:
            measure(recipe, run, arguments)


if __name__ == "__main__":
    main()
