"""How fast both systems are on this machine, beside what its arithmetic and its memory allow, and beside peers.

    python benchmarks/speed.py [--quick] [--rows unet decoders musiccm ...] [--write docs/performance.md]

Published sizes with random weights, 10 s of music, one clip. The limit of a row is the time that its multiplications
would take at the speed of a large matrix product of that precision, measured in the same run. Ratios are medians of
pairs that take turns. --quick halves the work: one pair, the first rows of each table. Nothing else should run.
"""

import argparse
import json
import os
import platform
import statistics
import sys
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
from melody_cm.pipelines import MusicCM
from melody_cm.placement import Placement, highest_memory
from melody_cm.runs import Setting

SECONDS = 10.24
PROMPT = "a calm piano melody with soft strings"
START, END = "<!-- speed.py: begin -->", "<!-- speed.py: end -->"
Row = dict[str, Any]


class Machine:
    """What the machine can do: multiplications a second (FLOP/s) in each precision, bytes read a second."""

    def __init__(self) -> None:
        self.flops = {
            name: max(_product(torch.randn(2048, 2048).to(dtype)) for _ in range(5))
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        }
        numbers = torch.zeros(2**28)
        self.bandwidth = numbers.nbytes / min(_timed(numbers.sum)[0] for _ in range(5))

    def facts(self) -> Row:
        return {
            "processor": _processor(), "threads": torch.get_num_threads(), "torch": torch.__version__,
            "load": round(os.getloadavg()[0], 1), "read_gb_s": round(self.bandwidth / 1e9, 1),
            **{f"{name}_gflop_s": round(value / 1e9) for name, value in self.flops.items()},
        }  # fmt: skip


class Bench:
    """Times rows and keeps them."""

    def __init__(self, quick: bool, file: Path | None) -> None:
        self.machine, self.pairs, self.rows, self.file = Machine(), 1 if quick else 5, [], file
        self.setting = Setting("paper")

    def row(self, goal: str, what: str, work: Callable[[], Any], precision: str, seconds: float = SECONDS) -> float:
        """A row of absolute speed, beside the limit of its multiplications; returns the time that it takes."""
        with FlopCounterMode(display=False) as counter:
            work()
        spent = statistics.median(_timed(work)[0] for _ in range(min(self.pairs, 3)))
        limit = counter.get_total_flops() / self.machine.flops[precision]
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
        if self.file:  # Row by row: a run that is cut off keeps what it had.
            told = {"machine": self.machine.facts(), "rows": self.rows}
            self.file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def unet(bench: Bench) -> None:
    """One pass of MusicCM's U-Net, and how much fewer passes save."""
    pipeline = random_musiccm(bench.setting)
    for precision, placed in placements(pipeline):
        with placed.computing():
            one, two = denoise(pipeline, 1), denoise(pipeline, 2)
            bench.row("G5", "U-Net, one pass", one, precision)
            bench.row("", "U-Net, one guided pass (two rows)", two, precision)
            passes = 5 if bench.pairs > 1 else 2
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
        for precision, _ in placements(pipeline):
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
    for precision, placed in placements(pipeline, ("bf16",) if bench.pairs == 1 else ("bf16", "fp32")):
        with placed.computing():
            step = dual_path_step(pipeline)
            spent = bench.row("G14", "dual-path diffusion, one guided step", step, precision, seconds)
        if precision == "bf16":
            few, more = (1, 2) if bench.pairs == 1 else (5, 10)
            took = {steps: _timed(generate(pipeline, steps, seconds)) for steps in (few, more)}
            for steps, (whole, made) in took.items():
                parts = {part: round(value, 2) for part, value in made.timings.items()}
                row = {"goal": "G9", "what": f"MeLoDy, {steps} step{'s'[: steps - 1]}", "precision": precision}
                row |= {"seconds": round(whole, 2), "times_real_time": round(seconds / whole, 3), **parts}
                bench._keep(row)
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
        "| goal | what | precision | s | x real time | TFLOP | share of the limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "times_real_time" in row:
            cells = [row.get(key, "") for key in ("goal", "what", "precision", "seconds", "times_real_time", "tflop")]
            share = f"{row['share_of_limit']:.0%}" if "share_of_limit" in row else ""
            lines.append("| " + " | ".join(map(str, [*cells, share])) + " |")
    lines += ["", "| goal | what | precision | ratio | from | to | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if "ratio" in row:
            cells = [row.get(key, "") for key in ("goal", "what", "precision", "ratio", "from", "to", "target")]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


ROWS: dict[str, Callable[[Bench], None]] = {
    "unet": unet, "decoders": decoders, "musiccm": musiccm, "melody": melody, "peers": peers
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    parser.add_argument("--json", type=Path, help="put the rows into this file")
    arguments = parser.parse_args()
    bench = Bench(arguments.quick, arguments.json)
    print(json.dumps(bench.machine.facts()), flush=True)
    for name in arguments.rows:
        ROWS[name](bench)
    facts = bench.machine.facts()
    peak = highest_memory(torch.device("cpu"))
    facts["peak_gib"] = round((peak or 0) / 2**30, 2)
    page = f"{START}\n" + ", ".join(f"{k} {v}" for k, v in facts.items()) + f"\n\n{table(bench.rows)}\n{END}"
    print(page)
    if arguments.write:
        text = arguments.write.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        arguments.write.write_text(before + page + after, encoding="utf-8")


if __name__ == "__main__":
    main()
