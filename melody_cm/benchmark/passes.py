"""How many network calls a clip costs: counted while a system works, beside its paper's formula."""

from collections.abc import Mapping
from typing import Any

from melody_cm.evaluation.forward_passes import (
    PassCounter,
    melody_passes,
    musiccm_passes,
    musiclm_passes,
    saving,
)
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import MeLoDy, MusicCM, MusicLM, PretrainedPipeline


def closed_form(pipeline: Pipeline, seconds: float, num_steps: int) -> int | None:
    """The formula of a system's paper at the pipeline's own rates; None for a system without one."""
    if isinstance(pipeline, MeLoDy):
        return melody_passes(seconds, num_steps, pipeline.semantic_frame_rate)
    if isinstance(pipeline, MusicCM):
        return musiccm_passes(num_steps)
    if isinstance(pipeline, MusicLM):
        coarse, fine = pipeline.coarse_lm, pipeline.fine_lm
        codebooks = coarse.stream_sizes["coarse"][0], fine.stream_sizes["fine"][0]
        return musiclm_passes(seconds, coarse.frame_rates["semantic"], pipeline.codec.frame_rate, *codebooks)
    return None


def passes_of_a_clip(
    pipeline: Pipeline, prompt: str, seed: int, seconds: float, num_steps: int
) -> dict[str, Any] | None:
    """The passes of one clip, counted while it is made; None for a system whose networks are not ours to count.

    Returns:
        `measured`: by network the calls (guidance batched: one a step) and the rows (guidance doubled: two a step);
        `total`: their sums over token models and denoisers; `closed_form`: the paper's formula; `saving`: of the
        formula, else of the count, against the MusicLM of the paper for so many seconds.
    """
    if not isinstance(pipeline, PretrainedPipeline):
        return None
    with PassCounter(pipeline.networks) as counter:
        pipeline.generate([prompt], seconds, [seed], num_steps)
    total, formula = counter.total(counter.calls), closed_form(pipeline, seconds, num_steps)
    called = [name for name, calls in counter.calls.items() if calls]
    return {
        "measured": {name: {"batched": counter.calls[name], "doubled": counter.rows[name]} for name in called},
        "total": {"batched": total, "doubled": counter.total(counter.rows)},
        "closed_form": formula,
        "saving": saving(total if formula is None else formula, musiclm_passes(seconds)),
    }


def passes_cells(passes: Mapping[str, Any] | None) -> list[str]:
    """The two cells of a row of a table: passes, measured / by formula, and the saving."""
    if passes is None:
        return ["-", "-"]
    formula = "-" if passes["closed_form"] is None else str(passes["closed_form"])
    return [f"{passes['total']['batched']} / {formula}", f"{passes['saving']:.1%}"]


def passes_note(seconds: float | int | None) -> str:
    """What the two cells mean, for clips of so many seconds."""
    reference = "" if seconds is None else f", {musiclm_passes(seconds)} a clip"
    return (
        "passes per clip: calls of token models and denoisers, measured / by the papers' formula; guidance in the same "
        f"batch counts one. saving: against MusicLM's 25 + 200 + 400 tokens a second{reference}."
    )
