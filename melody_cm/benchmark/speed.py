"""How fast a system makes one clip."""

import statistics
import time
from typing import Any

from melody_cm.interfaces import GeneratedAudio, Pipeline


def measure_speed(
    pipeline: Pipeline, prompt: str, seconds: float, num_steps: int, repetitions: int = 3
) -> dict[str, Any]:
    """`times_real_time` (seconds of audio per wall second, larger is faster) of one clip alone: the median of the
    repetitions after one warm-up; and the median seconds of each part (planner, denoiser, decoder).
    """
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}; a speed takes at least 1 measurement")
    _timed(pipeline, prompt, seconds, num_steps)
    runs = [_timed(pipeline, prompt, seconds, num_steps) for _ in range(repetitions)]
    wall_seconds = statistics.median(wall for wall, _ in runs)
    parts = runs[0][1].timings
    return {
        "times_real_time": seconds / wall_seconds,
        "wall_seconds": wall_seconds,
        "parts": {part: statistics.median(audio.timings[part] for _, audio in runs) for part in parts},
        "batch_size": 1,
        "repetitions": repetitions,
    }


def _timed(pipeline: Pipeline, prompt: str, seconds: float, num_steps: int) -> tuple[float, GeneratedAudio]:
    start = time.perf_counter()
    audio = pipeline.generate([prompt], seconds, seed=0, num_steps=num_steps)
    return time.perf_counter() - start, audio
