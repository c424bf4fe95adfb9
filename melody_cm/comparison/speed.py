"""How fast systems make one clip each, measured in turn so that a busy moment of the machine strikes all alike."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from melody_cm.audio import GeneratedAudio
from melody_cm.comparison.clips import Clips, remembered
from melody_cm.comparison.costs import passes_of_a_clip, peak_memory
from melody_cm.comparison.total_bar import TotalBar
from melody_cm.evaluation.provenance import describe_machine
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines.request import Stopwatch

REPETITIONS = 5  # Fewer say nothing of the spread.
PROBE_SIZE = 1024
PROBE_REPETITIONS = 8
STEADY = 0.6  # A row whose slowest clip falls below this share of its fastest: the machine did something else.


def measured_speeds(
    rows: Sequence[Clips], repetitions: int, out: Path, bar: TotalBar
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """For each row its `speed` and `passes`; and the probe of the machine before and after.

    What was measured before for the same rows on the same machine is read: only whole rounds can be compared.
    """
    made_from = {"rows": [row.key for row in rows], "repetitions": repetitions, "machine": describe_machine()}
    kept = remembered(out / "speed.json", made_from, lambda: _measure(rows, repetitions, bar))
    return kept["rows"], kept["probe"]


def _measure(rows: Sequence[Clips], repetitions: int, bar: TotalBar) -> dict[str, Any]:
    # Audio that was made elsewhere has no speed, and a null row that of the row it repeats.
    timed = [row for row in rows if not getattr(row.pipeline, "recorded", False) and row.null_of is None]
    runners = {row.title: Runner(row.pipeline, row.task.prompts[0], row.task.seconds, row.num_steps) for row in timed}
    device = next((runner.device for runner in runners.values()), torch.device("cpu"))
    before = probe_machine(device)
    for _ in measure_in_turn(list(runners.values()), repetitions):
        bar.advance()
    after = probe_machine(device)
    probe = {"unit": "GFLOP/s, fp32 matrix product", "before": before, "after": after}
    speeds = {title: runner.summary() for title, runner in runners.items()}
    probe["steady"] = all(speed["steady"] for speed in speeds.values())
    measured = [{"speed": speeds.get(row.title), "passes": None} for row in rows]
    for row, found in zip(rows, measured, strict=True):
        if row.null_of is None:
            asked = (row.task.prompts[0], row.task.seeds[0], row.task.seconds, row.num_steps)
            found["passes"] = passes_of_a_clip(row.pipeline, *asked)
    return {"rows": measured, "probe": probe}


@dataclass
class Runner:
    """One system at one number of steps, making the same clip again and again.

    Attributes:
        pipeline, prompt, seconds, num_steps: what is made; always one clip.
        runs: the seconds of each repetition: `wall`, `cpu` (of the processor), `first_audio` until a stream yields its
            first sound (the whole clip's for a pipeline without streams), and `parts`.
        flops: floating-point operations of matrix products and convolutions in one clip.
        memory: bytes beyond what the process held before.
        device: where the pipeline works.
    """

    pipeline: Pipeline
    prompt: str
    seconds: float
    num_steps: int
    runs: list[dict[str, Any]] = field(default_factory=list)
    flops: int = 0
    memory: int | None = None

    def __post_init__(self) -> None:
        self.device = getattr(self.pipeline, "device", torch.device("cpu"))

    def warm_up(self) -> None:
        """One clip that is not timed; it counts operations and memory."""
        with FlopCounterMode(display=False) as counter:
            self.make()
        self.flops = counter.get_total_flops()
        self.memory = peak_memory(self.make, self.device)

    def run(self) -> None:
        """One timed clip, then one whose stream is broken off at its first sound."""
        clock, cpu = Stopwatch(self.device), time.process_time()
        with clock.part("wall"):
            audio = self.make()
        cpu = time.process_time() - cpu
        if hasattr(self.pipeline, "stream"):
            with clock.part("first_audio"):
                next(iter(self.pipeline.stream([self.prompt], self.seconds, seed=0, num_steps=self.num_steps)))
        first_audio = clock.seconds.get("first_audio", clock.seconds["wall"])
        self.runs.append({**clock.seconds, "first_audio": first_audio, "cpu": cpu, "parts": audio.timings})

    def make(self) -> GeneratedAudio:
        """The clip."""
        return self.pipeline.generate([self.prompt], self.seconds, seed=0, num_steps=self.num_steps)

    def summary(self) -> dict[str, Any]:
        """The entry `speed` of a row: medians, and the range of the repetitions."""
        walls = [run["wall"] for run in self.runs]
        parts = [run["parts"] for run in self.runs]
        networks = getattr(self.pipeline, "networks", {}).values()
        return {
            "times_real_time": self.seconds / statistics.median(walls),
            "times_real_time_range": [self.seconds / max(walls), self.seconds / min(walls)],
            "steady": min(walls) >= STEADY * max(walls),
            "wall_seconds": statistics.median(walls),
            "cpu_seconds": statistics.median(run["cpu"] for run in self.runs),
            "parts": {part: statistics.median(run[part] for run in parts) for part in parts[0]},
            "first_audio_seconds": statistics.median(run["first_audio"] for run in self.runs),
            "flops": self.flops,
            "peak_memory_bytes": self.memory,
            "parameters": sum(parameter.numel() for network in networks for parameter in network.parameters()),
            "batch_size": 1,
            "repetitions": len(self.runs),
        }


def measure_in_turn(runners: Sequence[Runner], repetitions: int = REPETITIONS) -> Iterator[None]:
    """Warm all up, then time A B A B ...; yields after every clip, for a progress bar.

    Raises:
        ValueError: no repetition.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}; a speed takes at least 1 measurement, better {REPETITIONS}")
    for runner in runners:
        runner.warm_up()
        yield
    for _ in range(repetitions):
        for runner in runners:
            runner.run()
            yield


def probe_machine(device: torch.device) -> float:
    """GFLOP/s of a matrix product of 1024 x 1024 in fp32, the best of a few: how fast the machine is at this moment."""
    left, right = torch.rand(2, PROBE_SIZE, PROBE_SIZE, device=device)
    seconds = []
    for _ in range(PROBE_REPETITIONS):
        clock = Stopwatch(device)
        with clock.part("product"):
            left @ right
        seconds.append(clock.seconds["product"])
    return 2 * PROBE_SIZE**3 / min(seconds) / 1e9
