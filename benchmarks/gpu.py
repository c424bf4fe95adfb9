"""What melody_cm does on a GPU, piece by piece; `benchmarks/gpu.sh` runs all pieces and keeps what each one found.

    python benchmarks/gpu.py PIECE --out FOLDER [--dry]

Every number goes to FOLDER/gpu.json and FOLDER/gpu.md as soon as it is known. Speeds are of the published sizes with
random weights, one clip, the median of three after a warm-up. `--dry` does the same on the CPU at size tiny, once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from published import random_melody, random_musiccm
from recurrence import autograd_loop, forward_and_backward, fused_loop
from torch import Tensor

from melody_cm.comparison.baselines import open_baseline
from melody_cm.interfaces import Pipeline
from melody_cm.placement import Placement
from melody_cm.randomness import Draws
from melody_cm.runs import Run, Setting, plan_stages
from melody_cm.storage import build

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a calm piano melody with soft strings"
SYSTEMS = ("melody", "melody_cm", "musiccm", "musiccm_teacher", "musiccm_vocoder", "musiclm")
LIMITS = {"fp32": 1e-3, "bf16": 2e-2}  # How far a latent may be from that of the CPU in fp32.


class Table:
    """Rows that are on disk as soon as they are known."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.rows = json.loads((out / "gpu.json").read_text()) if (out / "gpu.json").is_file() else []

    def add(self, piece: str, what: str, value: float | str, unit: str = "", **more: Any) -> None:
        self.rows.append({"piece": piece, "what": what, "value": value, "unit": unit, **more})
        print(f"{piece}: {what}: {value if isinstance(value, str) else f'{value:.4g}'} {unit} {more or ''}", flush=True)
        (self.out / "gpu.json").write_text(json.dumps(self.rows, indent=1))
        lines = ["| piece | what | value | | more |", "|---|---|---|---|---|"]
        for row in self.rows:
            shown = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4g}"
            extra = ", ".join(
                f"{key} {value}" for key, value in row.items() if key not in ("piece", "what", "value", "unit")
            )
            lines.append(f"| {row['piece']} | {row['what']} | {shown} | {row['unit']} | {extra} |")
        (self.out / "gpu.md").write_text("\n".join(lines) + "\n")


class Bench:
    """Where and how large everything is."""

    def __init__(self, table: Table, dry: bool) -> None:
        self.table, self.dry = table, dry
        self.device = torch.device("cpu" if dry else "cuda")
        self.size, self.repetitions = ("tiny", 1) if dry else ("paper", 3)
        self.setting = Setting(self.size)
        self.run = Run(table.out / "run")

    def seconds(self, work: Callable[[], Any]) -> float:
        work()
        return statistics.median(self.once(work) for _ in range(self.repetitions))

    def once(self, work: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def speed(self, piece: str, what: str, pipeline: Pipeline, seconds: float, **settings: Any) -> None:
        """Seconds of music for a second of waiting, and the most memory that it took."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        prompts = [PROMPT] * settings.pop("clips", 1)
        made: list[Any] = []
        spent = self.seconds(lambda: made.append(pipeline.generate(prompts, seconds, seed=0, **settings)))
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
        parts = {part: round(value, 4) for part, value in made[-1].timings.items()}
        times = len(prompts) * seconds / spent
        self.table.add(piece, what, times, "x real time", seconds=round(spent, 4), peak_gib=round(peak, 2), **parts)


def machine(bench: Bench) -> None:
    """What the machine is, and how fast a large matrix product and a copy are on it."""
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    bench.table.add("machine", "device", name, torch=torch.__version__, python=sys.version.split()[0])
    size = 512 if bench.dry else 8192
    for what, dtype, tf32 in (
        ("fp32", torch.float32, "highest"),
        ("TF32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "high"),
    ):
        torch.set_float32_matmul_precision(tf32)
        left = torch.randn(size, size, device=bench.device, dtype=dtype)
        bench.table.add(
            "machine", f"matrix product, {what}", 2 * size**3 / bench.seconds(lambda x=left: x @ x) / 1e12, "TFLOP/s"
        )
    torch.set_float32_matmul_precision("highest")
    data = torch.empty(2**20 if bench.dry else 2**30, device=bench.device)
    bench.table.add("machine", "copy", 2 * data.nbytes / bench.seconds(data.clone) / 1e9, "GB/s")


def musiccm(bench: Bench) -> None:
    """MusicCM in 1 and 4 steps with HiFi-GAN, then with the ISTFT vocoder."""
    istft = {"class_path": "melody_cm.autoencoders.ISTFTVocoder", "init_args": {}}
    for name in ("HiFi-GAN", "ISTFT"):
        pipeline = random_musiccm(bench.setting)
        if name == "ISTFT":
            settings = vars(pipeline.autoencoder.mel.settings)
            pipeline = random_musiccm(bench.setting, {**istft, "init_args": dict(settings)})
        for dtype in (torch.float32, torch.bfloat16):
            pipeline.to(bench.device, dtype)
            for steps, clips in ((4, 1), (1, 1), (4, 8)):
                what = f"{steps} steps, {name}, {pipeline.placement.precision}, {clips} clip(s)"
                bench.speed("musiccm", what, pipeline, pipeline.max_seconds, num_steps=steps, clips=clips)


def melody(bench: Bench) -> None:
    """MeLoDy in 5, 10 and 20 steps, and the tokens a second of its language model."""
    pipeline = random_melody(bench.setting)
    for dtype in (torch.bfloat16, torch.float32):
        pipeline.to(bench.device, dtype)
        precision = pipeline.placement.precision
        for steps in (5, 10, 20) if dtype == torch.bfloat16 else (5,):
            bench.speed("melody", f"{steps} steps, {precision}", pipeline, pipeline.max_seconds, num_steps=steps)
        model, count = pipeline.semantic_lm, 25 if bench.dry else 100
        prompt = {"prompt": torch.zeros(1, model.stream_sizes["prompt"][0], 1, dtype=torch.long, device=bench.device)}
        with pipeline.placement.computing():
            spent = bench.seconds(partial(model.sample, prompt, count, [torch.Generator().manual_seed(0)]))
        bench.table.add("melody", f"language model, {precision}", count / spent, "tokens/s")


def learn(bench: Bench) -> None:
    """Clips a second of the two largest trainings in bf16 autocast, forward, backward and AdamW, on random latents."""
    clips = 2 if bench.dry else 4
    recipe = bench.setting.compose("melody/6_dual_path_diffusion").config
    slots, pipeline = recipe["model"]["init_args"], random_melody(bench.setting)
    objective, denoiser = build(slots["objective"]), pipeline.denoiser.to(bench.device).train()
    shape = pipeline.autoencoder.latent_shape(recipe["data"]["seconds"])
    latent, size = torch.randn(clips, *shape, device=bench.device), pipeline.semantic_lm.stream_sizes
    codes = torch.zeros(clips, 1, round(25 * recipe["data"]["seconds"]), dtype=torch.long, device=bench.device)
    conditioner = pipeline.conditioner.to(bench.device)
    draws = Draws(0, [0] * clips, range(clips))

    def diffusion() -> Tensor:
        return sum(objective({"student": denoiser}, latent, conditioner.embed(codes), draws).terms.values())

    model = pipeline.semantic_lm.to(bench.device).train()
    prompt = torch.zeros(clips, size["prompt"][0], 1, dtype=torch.long, device=bench.device)
    for what, network, loss in (
        ("dual-path diffusion", denoiser, diffusion),
        ("semantic LM", model, lambda: model.loss({"prompt": prompt, "semantic": codes})),
    ):
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)

        def step(loss: Callable[[], Tensor] = loss, optimizer: torch.optim.Optimizer = optimizer) -> None:
            with torch.autocast(bench.device.type, torch.bfloat16):
                found = loss()
            found.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        spent = bench.seconds(step)
        peak = torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else 0.0
        bench.table.add(
            "learn", f"{what}, bf16-mixed, {clips} clips", clips / spent, "clips/s", peak_gib=round(peak, 2)
        )


def recurrence(bench: Bench) -> None:
    """The recurrence of the dual-path network, forward and backward: fused into a kernel a pass, and frame by frame."""
    shape = (1, 8, 4, 16) if bench.dry else (2, 64, 80, 768)
    inputs = [torch.randn(*shape[:3], parts * shape[3], device=bench.device, requires_grad=True) for parts in (4, 2, 2)]
    for what, run in (("fused", fused_loop), ("frame by frame, by autograd", autograd_loop)):
        spent = bench.seconds(lambda run=run: forward_and_backward(run, inputs))
        bench.table.add("recurrence", what, 1000 * spent, "ms", shape=shape)


def stages(bench: Bench) -> None:
    """Every stage of every system for two steps in bf16-mixed, at size tiny; `agree` reads what they leave."""
    from two_steps import NEW_CLASSES, STAGES

    os.environ["MELODY_CM_CACHE"] = str(bench.table.out / "cache")
    for recipe in plan_stages([*STAGES, *NEW_CLASSES], Setting("tiny", "cpu" if bench.dry else "gpu")):
        recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 48
        key = "max_steps" if "max_steps" in recipe.config["trainer"] else "limit_train_batches"
        recipe.config["trainer"] |= {key: 2, "val_check_interval": 2, "log_every_n_steps": 1, "precision": "bf16-mixed"}
        spent = bench.once(lambda recipe=recipe: bench.run.train([recipe]))
        outcome = bench.run.finished(recipe.name)["outcome"]
        bench.table.add("stages", recipe.name, outcome["loss_after"] or 0.0, "loss", seconds=round(spent, 1))


def agree(bench: Bench) -> None:
    """Every pipeline against itself on the CPU in fp32: the same in fp32, near in bf16."""
    for name in SYSTEMS:
        pipeline = bench.run.enter().pipeline(name)
        expected = pipeline.generate([PROMPT], pipeline.max_seconds, 0, 1).waveform
        for precision in ("fp32", "bf16"):
            pipeline.to(bench.device, Placement.choose("cpu", precision).dtype)
            torch.set_float32_matmul_precision("highest")  # TF32 is a rounding of its own.
            made = pipeline.generate([PROMPT], pipeline.max_seconds, 0, 1).waveform.cpu()
            error = float((made - expected).norm() / expected.norm())
            bench.table.add("agree", f"{name}, {precision}", error, "relative error", limit=LIMITS[precision])


def gpu_tests(bench: Bench) -> None:
    """pytest -m gpu."""
    options = ["-m", "gpu", "-p", "no:cacheprovider", "--timeout", "240"]
    command = [sys.executable, "-m", "pytest", *options, "tests/test_gpu.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (bench.table.out / "pytest.txt").write_text(done.stdout + done.stderr)
    bench.table.add(
        "tests", "pytest -m gpu", (done.stdout.strip().splitlines() or ["nothing"])[-1], exit=done.returncode
    )


def peers(bench: Bench) -> None:
    """MusicGen-small and MusicLDM as their libraries have them, with random weights, for 10 s."""
    for name, settings in (("musicldm:random", {"num_steps": 4}), ("musicgen:random", {})):
        if bench.dry:
            bench.table.add("peers", name, "left out in a dry run")
            continue
        pipeline = open_baseline(name)
        for dtype in (torch.float32, torch.bfloat16):
            pipeline.to(bench.device, dtype)
            bench.speed("peers", f"{name}, {pipeline.placement.precision}, {settings}", pipeline, 10.0, **settings)


PIECES: dict[str, Callable[[Bench], None]] = {
    "machine": machine, "musiccm": musiccm, "melody": melody, "stages": stages, "agree": agree, "learn": learn,
    "tests": gpu_tests, "recurrence": recurrence, "peers": peers,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=PIECES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(Table(arguments.out), arguments.dry)
    try:
        PIECES[arguments.piece](bench)
    except Exception as error:  # The other pieces go on, and the table says what is missing.
        bench.table.add(arguments.piece, "FAILED", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
