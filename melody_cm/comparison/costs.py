"""What one clip costs: network calls beside the paper's formula, and memory."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from melody_cm.evaluation.forward_passes import PassCounter, melody_passes, musiccm_passes, musiclm_passes, saving
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import MeLoDy, MusicCM, MusicLM, PretrainedPipeline
from melody_cm.placement import highest_memory

RESET = Path("/proc/self/clear_refs")


def passes_of_a_clip(
    pipeline: Pipeline, prompt: str, seed: int, seconds: float, num_steps: int
) -> dict[str, Any] | None:
    """The passes of one clip, counted while it is made; None for a system whose networks are not ours to count.

    Returns:
        `measured`: by network the calls (guidance batched: one a step; several windows in a batch: one each) and the
        rows (guidance doubled: two a step);
        `total`: their sums over token models and denoisers; `closed_form`: the paper's formula, None where it has none:
        for clips of several windows; `saving`: of the formula, else of the count, against the MusicLM of the paper for
        so many seconds.
    """
    if not isinstance(pipeline, PretrainedPipeline):
        return None
    with PassCounter(pipeline.networks) as counter:
        pipeline.generate([prompt], seconds, [seed], num_steps)
    calls = counter.calls
    if seconds > pipeline.max_seconds:
        with PassCounter(pipeline.networks) as window:
            pipeline.generate([prompt], pipeline.max_seconds, [seed], num_steps)
        # A call has as many rows as there are windows in it, times those of guidance, which one window shows.
        calls = {name: rows * window.calls[name] // max(window.rows[name], 1) for name, rows in counter.rows.items()}
    total, formula = counter.total(calls), closed_form(pipeline, seconds, num_steps)
    called = [name for name, count in counter.calls.items() if count]
    return {
        "measured": {name: {"batched": calls[name], "doubled": counter.rows[name]} for name in called},
        "total": {"batched": total, "doubled": counter.total(counter.rows)},
        "closed_form": formula,
        "saving": saving(total if formula is None else formula, musiclm_passes(seconds)),
    }


def closed_form(pipeline: Pipeline, seconds: float, num_steps: int) -> int | None:
    """The formula of a system's paper at the pipeline's own rates; None for a system without one, and for a clip that
    is put together from several windows, each with passes of its own."""
    if seconds > getattr(pipeline, "max_seconds", seconds):
        return None
    if isinstance(pipeline, MeLoDy):
        return melody_passes(seconds, num_steps, pipeline.semantic_frame_rate)
    if isinstance(pipeline, MusicCM):
        return musiccm_passes(num_steps)
    if isinstance(pipeline, MusicLM):
        coarse, fine = pipeline.coarse_lm, pipeline.fine_lm
        codebooks = coarse.stream_sizes["coarse"][0], fine.stream_sizes["fine"][0]
        return musiclm_passes(seconds, coarse.frame_rates["semantic"], pipeline.codec.frame_rate, *codebooks)
    return None


def peak_memory(work: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that some work held beyond what was there before; None where it cannot be told.

    On an accelerator that of its allocator; else resident memory of the process, which Linux alone can tell.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        # Freed memory goes back to the system first: work that takes it again would seem to need none.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # Of glibc alone.
            trim(0)
        RESET.write_text("5")  # Sets the high-water mark back to what is resident now.
    before = highest_memory(device)
    work()
    after = highest_memory(device)
    return None if before is None or after is None else after - before
