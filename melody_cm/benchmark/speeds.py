"""The speed, passes and memory of all rows of a comparison, measured in turn and kept beside its results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from melody_cm.benchmark.machine import describe_machine
from melody_cm.benchmark.passes import passes_of_a_clip
from melody_cm.benchmark.row import Row
from melody_cm.benchmark.speed import Runner, measure_in_turn, probe_machine
from melody_cm.evaluation.forward_passes import PassCounter
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.storage import read_json, write_json

STEADY = 0.6  # A probe that falls below this share of the other means that the machine did something else.


def measured_speeds(
    rows: Sequence[Row], repetitions: int, out: Path, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """For each row its `speed` and `passes`; and the probe of the machine before and after.

    What was measured before for the same rows on the same machine is read: only whole rounds can be compared.
    """
    made_from = {"rows": [row.key for row in rows], "repetitions": repetitions, "machine": describe_machine()}
    file = out / "speed.json"
    kept = read_json(file) if file.is_file() else {}
    if kept.get("made_from") != made_from:
        kept = {"made_from": made_from, **_measure(rows, repetitions, progress)}
        write_json(file, kept)
    return kept["rows"], kept["probe"]


def _measure(rows: Sequence[Row], repetitions: int, progress: Progress) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Audio that was made elsewhere has no speed.
    timed = [row for row in rows if not getattr(row.pipeline, "recorded", False)]
    runners = {row.title: Runner(row.pipeline, row.prompts[0], row.seconds, row.num_steps) for row in timed}
    before = probe_machine(device)
    task = progress.add_task("speed", total=len(timed) * (repetitions + 1))
    for _ in measure_in_turn(list(runners.values()), repetitions):
        progress.advance(task)
    after = probe_machine(device)
    probe = {"unit": "GFLOP/s, fp32 matrix product", "before": before, "after": after}
    probe["steady"] = min(before, after) >= STEADY * max(before, after)
    summaries = {title: runner.summary() for title, runner in runners.items()}
    measured = [{"speed": summaries.get(row.title), "passes": _passes(row)} for row in rows]
    return {"rows": measured, "probe": probe}


def _passes(row: Row) -> dict[str, Any] | None:
    """The passes of one clip, counted while it is made; None for a system whose networks are not ours to count."""
    if not isinstance(row.pipeline, PretrainedPipeline):
        return None
    with PassCounter(row.pipeline.networks) as counter:
        row.pipeline.generate([row.prompts[0]], row.seconds, [row.seeds[0]], row.num_steps)
    return passes_of_a_clip(counter, 1, 1, row.pipeline, row.seconds, row.num_steps)
