"""How fast both systems are on this machine, beside what its arithmetic and its memory allow, and beside peers.

    python benchmarks/speed.py [--quick] [--rows unet decoders musiccm ...] [--write docs/performance.md]

Published sizes with random weights, 10 s of music, one clip. The limit of a row is the time that its multiplications
would take at the speed of a large matrix product of that precision, measured right before and after it. Ratios are
medians of pairs that take turns. --quick takes under five minutes: one pair, the long rows once. Nothing else should
run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from published import random_melody, random_musiccm
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import SpeechT5HifiGan

from melody_cm.comparison.baselines import open_baseline
from melody_cm.interfaces import Conditioning
from melody_cm.pipelines import MusicCM, Request
from melody_cm.placement import Placement, highest_memory
from melody_cm.runs import Setting

LONG = 3.0  # Seconds, of a row that --quick times once, while its multiplications are counted.
SECONDS = 10.24
PROMPT = "a calm piano melody with soft strings"
START, END = "<!-- speed.py: begin -->", "<!-- speed.py: end -->"
Row = dict[str, Any]


class Machine:
    """What the machine can do: multiplications a second (FLOP/s) in each precision, bytes read a second."""

    def __init__(self) -> None:
        matrix = torch.randn(2048, 2048)
        self.matrices = {"fp32": matrix, "bf16": matrix.bfloat16()}
        self.flops = {name: self.product(name) for name in self.matrices}
        numbers = torch.zeros(2**28)
        self.bandwidth = numbers.nbytes / min(_timed(numbers.sum)[0] for _ in range(5))

    def product(self, precision: str) -> float:
        """FLOP/s of a large matrix product, now."""
        return max(_product(self.matrices[precision]) for _ in range(5))

    def facts(self) -> Row:
        return {
            "processor": _processor(), "threads": torch.get_num_threads(), "torch": torch.__version__,
            "load": round(os.getloadavg()[0], 1), "read_gb_s": round(self.bandwidth / 1e9, 1),
            **{f"{name}_gflop_s": round(value / 1e9) for name, value in self.flops.items()},
        }  # fmt: skip


class Bench:
    """Times rows and keeps them."""

    def __init__(self, quick: bool, file: Path, size: str) -> None:
        self.machine, self.pairs, self.rows, self.file = Machine(), 1 if quick else 5, [], file
        self.setting = Setting(size)

    @property
    def quick(self) -> bool:
        return self.pairs == 1

    def row(self, goal: str, what: str, work: Callable[[], Any], precision: str, seconds: float = SECONDS) -> float:
        """A row of absolute speed, beside the limit of its multiplications; returns the time that it takes."""
        before = self.machine.product(precision)
        with FlopCounterMode(display=False) as counter:
            spent, _ = _timed(work)
        if not self.quick or spent < LONG:  # What counting takes shows in short work only.
            spent = statistics.median(_timed(work)[0] for _ in range(min(self.pairs, 3)))
        limit = counter.get_total_flops() / max(before, self.machine.product(precision))
        self._keep({
            "goal": goal, "what": what, "precision": precision, "seconds": round(spent, 3),
            "times_real_time": round(seconds / spent, 3), "tflop": round(counter.get_total_flops() / 1e12, 3),
            "share_of_limit": round(limit / spent, 2),
        })  # fmt: skip
        return spent

    def ratio(self, goal: str, what: str, theirs: Callable[[], Any], ours: Callable[[], Any], **more: Any) -> None:
        """A row of how many times as long theirs takes as ours, in pairs that take turns."""
        theirs(), ours()
        ratios = sorted(_timed(theirs)[0] / _timed(ours)[0] for _ in range(self.pairs))
        found = {"ratio": round(statistics.median(ratios), 2), "from": round(ratios[0], 2), "to": round(ratios[-1], 2)}
        self._keep({"goal": goal, "what": what, **found, "pairs": self.pairs, **more})

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        told = {"machine": self.machine.facts(), "rows": self.rows}  # A run that is cut off keeps what it had.
        self.file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def unet(bench: Bench) -> None:
    """One pass of MusicCM's U-Net, and how much fewer passes save."""
    pipeline = random_musiccm(bench.setting)
    for precision, placed in placements(pipeline):
        with placed.computing():
            one, two = denoise(pipeline, 1), denoise(pipeline, 2)
            bench.row("G5", "U-Net, one pass", one, precision)
            bench.row("", "U-Net, one guided pass (two rows)", two, precision)
            passes = 2 if bench.quick else 5
            bench.ratio("G1", f"U-Net, {passes} guided passes against {passes} of the student", repeat(two, passes),
                        repeat(one, passes), precision=precision, passes_ratio=12.5)  # fmt: skip


def decoders(bench: Bench) -> None:
    """The mel VAE, both vocoders, MeLoDy's VAE; HiFi-GAN beside transformers' with the same weights."""
    pipeline, melody = random_musiccm(bench.setting), random_melody(bench.setting)
    istft = random_musiccm(bench.setting, istft_of(pipeline)).autoencoder.vocoder
    waveform, hifigan = melody.autoencoder, pipeline.autoencoder.vocoder
    theirs: SpeechT5HifiGan = SpeechT5HifiGan(hifigan.model.config).eval()
    theirs.load_state_dict(hifigan.model.state_dict())
    latent = torch.randn(1, *pipeline.autoencoder.latent_shape(SECONDS))
    frames = torch.randn(1, *melody.autoencoder.latent_shape(SECONDS))
    for precision in ("fp32", "bf16"):
        placed = Placement.choose("cpu", precision)
        placed.put([pipeline.autoencoder, istft, waveform])
        with placed.computing():
            mel = pipeline.autoencoder.decode_mel(latent)
            bench.row("G5", "mel VAE, decoder", lambda: pipeline.autoencoder.decode_mel(latent), precision)
            bench.row("G4", "HiFi-GAN", lambda mel=mel: hifigan(mel), precision)
            bench.row("G5", "ISTFT vocoder", lambda mel=mel: istft(mel), precision)
            bench.row("G9", "MeLoDy's VAE, decoder", lambda: waveform.decode(frames), precision)
            kept = mel.float()

            def reference(mel: Tensor = kept) -> Tensor:
                with torch.autocast("cpu", enabled=False):
                    return theirs(mel)

            what = "HiFi-GAN of transformers in fp32 against ours"
            bench.ratio("G4", what, reference, lambda mel=mel: hifigan(mel), precision=precision, target=">= 3 in bf16")


def musiccm(bench: Bench) -> None:
    """MusicCM whole, with both vocoders, beside MusicLDM of diffusers."""
    for name in ("HiFi-GAN", "ISTFT"):
        pipeline = random_musiccm(bench.setting)
        if name == "ISTFT":
            pipeline = random_musiccm(bench.setting, istft_of(pipeline))
        for precision, _ in placements(pipeline, ("bf16",) if bench.quick else ("fp32", "bf16")):
            for steps in (4, 1):
                work = generate(pipeline, steps)
                bench.row("G5", f"MusicCM, {steps} step{'s'[: steps - 1]}, {name}", work, precision)
    peer = open_baseline("musicldm:random")
    bench.ratio("G3", "MusicLDM of diffusers, 4 steps, fp32, against MusicCM, 4 steps, ISTFT, bf16",
                lambda: peer.generate([PROMPT], SECONDS, 0, num_steps=4), generate(pipeline, 4))  # fmt: skip


def melody(bench: Bench) -> None:
    """One guided step of the dual-path diffusion, MeLoDy whole, and how time grows with steps."""
    pipeline = random_melody(bench.setting)
    seconds = pipeline.max_seconds
    for precision, placed in placements(pipeline, ("bf16",) if bench.quick else ("bf16", "fp32")):
        with placed.computing():
            step = dual_path_step(pipeline)
            spent = bench.row("G14", "dual-path diffusion, one guided step", step, precision, seconds)
        if precision == "bf16":
            counts = (1, 2) if bench.quick else (5, 10, 20)
            took = {steps: _timed(generate(pipeline, steps, seconds)) for steps in counts}
            for steps, (whole, made) in took.items():
                parts = {part: round(value, 2) for part, value in made.timings.items()}
                row = {"goal": "G9", "what": f"MeLoDy, {steps} step{'s'[: steps - 1]}", "precision": precision}
                row |= {"seconds": round(whole, 2), "times_real_time": round(seconds / whole, 3), **parts}
                bench._keep(row)
            few, more = counts[0], counts[-1]
            further = (took[more][0] - took[few][0]) / (more - few)
            what = "a further step of MeLoDy against one pass of its network"
            bench._keep({"goal": "G15", "what": what, "precision": precision, "ratio": round(further / spent, 3)})


def peers(bench: Bench) -> None:
    """MusicGen-small as transformers has it, for a second of music."""
    pipeline = open_baseline("musicgen:random")
    for precision, _ in placements(pipeline):
        spent, _ = _timed(lambda: pipeline.generate([PROMPT], 1.0, 0))
        row = {"goal": "G11", "what": "MusicGen-small of transformers, 1 s", "precision": precision}
        bench._keep({**row, "times_real_time": round(1 / spent, 3)})


def batches(bench: Bench) -> None:
    """What a pass costs for several clips at once: of the U-Net, and of the language model (32 tokens)."""
    counts, pipeline, melody = ((1, 4) if bench.quick else (1, 4, 16)), *systems(bench)
    pipeline.to("cpu", torch.bfloat16), melody.to("cpu", torch.bfloat16)
    for rows in counts:
        with pipeline.placement.computing():
            bench.row("", f"U-Net, one pass, {rows} clips", denoise(pipeline, rows), "bf16", rows * SECONDS)
            prompt = {"prompt": torch.zeros(rows, *melody.semantic_lm.stream_sizes["prompt"][:1], 1, dtype=torch.long)}
            generators = [torch.Generator().manual_seed(row) for row in range(rows)]
            spent, _ = _timed(lambda prompt=prompt, own=generators: melody.semantic_lm.sample(prompt, 32, own))
        row = {"goal": "", "what": f"language model, 32 tokens, {rows} clips", "precision": "bf16"}
        music = rows * 32 / melody.semantic_frame_rate
        bench._keep({**row, "seconds": round(spent, 2), "times_real_time": round(music / spent, 3)})


def lengths(bench: Bench) -> None:
    """What long music costs, when its first sound comes, and how memory grows: MusicCM with the ISTFT vocoder in 4
    steps, MeLoDy in 1 (its share of the first sound is smaller the more steps it takes)."""
    for pipeline, steps in zip(systems(bench), (4, 1), strict=True):
        pipeline.to("cpu", torch.bfloat16)
        first_peak = None
        for seconds in (10, 30) if bench.quick else (5, 10, 30, 60, 300, 600):
            forget_highest_memory()
            whole, first, start = 0.0, None, time.perf_counter()
            for _ in next(pipeline.streams(Request([PROMPT], seconds, num_steps=steps))):
                whole = time.perf_counter() - start
                first = whole if first is None else first
            peak = highest_memory(torch.device("cpu")) or 0
            first_peak = first_peak or peak
            what = f"{type(pipeline).__name__}, {seconds} s, {steps} step{'s'[: steps - 1]}"
            bench._keep({
                "goal": "G17, G18", "what": what, "precision": "bf16", "seconds": round(whole, 2),
                "times_real_time": round(seconds / whole, 3), "first_sound_share": round(first / whole, 3),
                "peak_gib": round(peak / 2**30, 2), "peak_of_first": round(peak / first_peak, 3),
            })  # fmt: skip


def loading(bench: Bench) -> None:
    """From a folder to a pipeline, and `melody-cm generate` from its call to the first sound (one step)."""
    for pipeline in systems(bench):
        with tempfile.TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder)
            seconds, name = pipeline.max_seconds, type(pipeline).__name__
            del pipeline
            told = _process(["-c", LOAD, folder])[1].decode().split()
            for what, spent in zip(("import", "load"), map(float, told), strict=True):
                bench._keep({"goal": "", "what": f"{name}, {what}", "precision": "fp32", "seconds": spent})
            words = ["generate", folder, "--prompt", PROMPT, "--seconds", f"{seconds:g}", "--steps", "1", "--out", "-"]
            first, _ = _process(["-m", "melody_cm.cli.main", "--trust-module", "published", *words])
            row = {"goal": "", "what": f"{name}, from the command to the first sound, 1 step", "precision": "fp32"}
            bench._keep({**row, "seconds": round(first, 2)})


LOAD = """
import sys, time
start = time.perf_counter()
import melody_cm, melody_cm.storage
load = melody_cm.load
imported = time.perf_counter()
melody_cm.storage.trust_module("published")
load(sys.argv[1], "cpu")
print(imported - start, time.perf_counter() - imported)
"""


def _process(words: list[str]) -> tuple[float, bytes]:
    """Seconds until another Python has printed more than the header of a WAV file has, and all that it printed."""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])])
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, env=environment) as process:
        begun = process.stdout.read(45)
        first = time.perf_counter() - start
        rest = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"python {' '.join(words)} failed with exit code {process.returncode}")
    return first, begun + rest


def systems(bench: Bench) -> tuple[Any, Any]:
    """MusicCM with the ISTFT vocoder, and MeLoDy."""
    return random_musiccm(bench.setting, istft_of(random_musiccm(bench.setting))), random_melody(bench.setting)


def forget_highest_memory() -> None:
    """Let the highest memory of this process be what it has now, where Linux can."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5")


def placements(pipeline: Any, names: tuple[str, ...] = ("fp32", "bf16")) -> Iterator[tuple[str, Placement]]:
    for name in names:
        placement = Placement.choose("cpu", name)
        pipeline.to("cpu", placement.dtype)
        yield name, placement


def denoise(pipeline: MusicCM, rows: int) -> Callable[[], Tensor]:
    latent = torch.randn(rows, *pipeline.autoencoder.latent_shape(SECONDS))
    pooled = torch.randn(rows, pipeline.joint_embedding.width)
    known = Conditioning(None, pooled, None, torch.zeros(rows, dtype=torch.bool))
    return lambda: pipeline.denoiser(latent, torch.ones(rows), known)


def dual_path_step(pipeline: Any) -> Callable[[], Tensor]:
    latent = torch.randn(2, *pipeline.autoencoder.latent_shape(pipeline.max_seconds))
    codes = torch.zeros(2, 1, round(25 * pipeline.max_seconds), dtype=torch.long)
    known = pipeline.conditioner.embed(codes)
    return lambda: pipeline.denoiser(latent, torch.ones(2), known)


def istft_of(pipeline: MusicCM) -> dict[str, Any]:
    settings = dict(vars(pipeline.autoencoder.mel.settings))
    return {"class_path": "melody_cm.autoencoders.ISTFTVocoder", "init_args": settings}


def generate(pipeline: Any, steps: int, seconds: float = SECONDS) -> Callable[[], Any]:
    return lambda: pipeline.generate([PROMPT], seconds, seed=0, num_steps=steps)


def repeat(work: Callable[[], Any], times: int) -> Callable[[], None]:
    def many() -> None:
        for _ in range(times):
            work()

    return many


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _product(matrix: Tensor) -> float:
    return 2 * len(matrix) ** 3 / _timed(lambda: matrix @ matrix)[0]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512_vnni") if flag in flags]
    return " ".join([names[0] if names else platform.machine(), *known])


def table(rows: list[Row]) -> str:
    """Markdown: absolute speeds, then ratios."""
    lines = [
        "| what | precision | s | x real time | TFLOP | share of the limit |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "ratio" not in row:
            cells = [row.get(key, "") for key in ("what", "precision", "seconds", "times_real_time", "tflop")]
            share = f"{row['share_of_limit']:.0%}" if "share_of_limit" in row else ""
            if "first_sound_share" in row:
                share = f"first sound after {row['first_sound_share']:.0%}, peak {row['peak_gib']} GiB"
            lines.append("| " + " | ".join(map(str, [*cells, share])) + " |")
    lines += ["", "| what | precision | ratio | from | to | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        if "ratio" in row:
            cells = [row.get(key, "") for key in ("what", "precision", "ratio", "from", "to", "target")]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


ROWS: dict[str, Callable[[Bench], None]] = {
    "unet": unet, "decoders": decoders, "musiccm": musiccm, "melody": melody, "peers": peers, "batches": batches,
    "lengths": lengths, "loading": loading,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="of the table (.md) and its rows (.json)")
    parser.add_argument("--size", default="paper", help="of the recipes; a small one tries this script out")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.quick, arguments.out.with_suffix(".json"), arguments.size)
    print(json.dumps(bench.machine.facts()), flush=True)
    for name in arguments.rows:
        ROWS[name](bench)
    facts = bench.machine.facts()
    peak = highest_memory(torch.device("cpu"))
    facts["peak_gib"] = round((peak or 0) / 2**30, 2)
    page = f"{START}\n" + ", ".join(f"{k} {v}" for k, v in facts.items()) + f"\n\n{table(bench.rows)}\n{END}"
    print(page)
    arguments.out.with_suffix(".md").write_text(table(bench.rows) + "\n", encoding="utf-8")
    if arguments.write:
        text = arguments.write.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        arguments.write.write_text(before + page + after, encoding="utf-8")


if __name__ == "__main__":
    main()
