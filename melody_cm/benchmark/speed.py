"""How fast systems make one clip each, measured in turn so that a busy moment of the machine strikes all alike."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from melody_cm.benchmark.memory import PeakMemory
from melody_cm.interfaces import GeneratedAudio, Network, Pipeline

REPETITIONS = 5  # Fewer say nothing of the spread.
PROBE_SIZE = 1024
PROBE_REPETITIONS = 8


@dataclass
class Runner:
    """One system at one number of steps, making the same clip again and again.

    Attributes:
        pipeline, prompt, seconds, num_steps: what is made; always one clip.
        walls, cpus: wall and processor seconds of each repetition.
        parts: seconds of each part, repetition by repetition.
        first_audio: seconds until a stream yields its first sound; the whole clip's for a pipeline without streams.
        flops: floating-point operations of matrix products and convolutions in one clip.
        memory: bytes beyond what the process held before.
    """

    pipeline: Pipeline
    prompt: str
    seconds: float
    num_steps: int
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    first_audio: list[float] = field(default_factory=list)
    flops: int = 0
    memory: int | None = None

    def warm_up(self) -> None:
        """One clip that is not timed; it counts operations and memory."""
        with FlopCounterMode(display=False) as counter:
            self.make()
        self.flops = counter.get_total_flops()
        with PeakMemory(self._device()) as peak:
            self.make()
        self.memory = peak.bytes

    def run(self) -> None:
        """One timed clip, then one whose stream is broken off at its first sound."""
        wall, cpu = self._now(), time.process_time()
        audio = self.make()
        self.walls.append(self._now() - wall)
        self.cpus.append(time.process_time() - cpu)
        self.parts.append(audio.timings)
        self.first_audio.append(self._until_first_sound())

    def make(self) -> GeneratedAudio:
        """The clip."""
        return self.pipeline.generate([self.prompt], self.seconds, seed=0, num_steps=self.num_steps)

    def summary(self) -> dict[str, Any]:
        """The entry `speed` of a row: medians, and the range of the repetitions."""
        wall = statistics.median(self.walls)
        return {
            "times_real_time": self.seconds / wall,
            "times_real_time_range": [self.seconds / max(self.walls), self.seconds / min(self.walls)],
            "wall_seconds": wall,
            "cpu_seconds": statistics.median(self.cpus),
            "parts": {part: statistics.median(run[part] for run in self.parts) for part in self.parts[0]},
            "first_audio_seconds": statistics.median(self.first_audio),
            "flops": self.flops,
            "peak_memory_bytes": self.memory,
            "parameters": self._parameters(),
            "batch_size": 1,
            "repetitions": len(self.walls),
        }

    def _until_first_sound(self) -> float:
        stream = getattr(self.pipeline, "stream", None)
        if stream is None:
            return self.walls[-1]
        start = self._now()
        chunks = stream([self.prompt], self.seconds, seed=0, num_steps=self.num_steps)
        next(iter(chunks))
        return self._now() - start

    def _now(self) -> float:
        if self._device().type == "cuda":
            torch.cuda.synchronize(self._device())
        return time.perf_counter()

    def _device(self) -> torch.device:
        return getattr(self.pipeline, "device", torch.device("cpu"))

    def _parameters(self) -> int:
        networks: dict[str, Network] = getattr(self.pipeline, "networks", {})
        return sum(parameter.numel() for network in networks.values() for parameter in network.parameters())


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
    best = float("inf")
    for _ in range(PROBE_REPETITIONS):
        start = _synchronized(device)
        left @ right
        best = min(best, _synchronized(device) - start)
    return 2 * PROBE_SIZE**3 / best / 1e9


def _synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
