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
from melody_cm.pipelines import MeLoDy, MusicCM, MusicLM


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
    counter: PassCounter, batches: int, clips: int, pipeline: Pipeline, seconds: float, num_steps: int
) -> dict[str, Any]:
    """The entry `passes` of a row, from what was counted while a pipeline made `clips` clips in `batches` batches.

    `measured` holds by network the calls a batch (guidance batched: one a step) and the rows a clip (guidance doubled:
    two a step); `total` the sums over token models and denoisers; `closed_form` the paper's formula; `saving` the
    formula's, else the count's, against the MusicLM of the paper for so many seconds.
    """
    batched = {name: _whole(calls / batches) for name, calls in counter.calls.items() if calls}
    doubled = {name: _whole(counter.rows[name] / clips) for name in batched}
    total = _whole(counter.total(counter.calls) / batches)
    formula = closed_form(pipeline, seconds, num_steps)
    return {
        "measured": {name: {"batched": batched[name], "doubled": doubled[name]} for name in batched},
        "total": {"batched": total, "doubled": _whole(counter.total(counter.rows) / clips)},
        "closed_form": formula,
        "saving": saving(total if formula is None else formula, musiclm_passes(seconds)),
    }


def passes_cells(row: Mapping[str, Any]) -> list[str]:
    """The two cells of a row of a table: passes, measured / by formula, and the saving."""
    passes = row.get("passes")
    if passes is None:  # Results of an older version.
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


def _whole(count: float) -> int | float:
    return int(count) if count == int(count) else count
