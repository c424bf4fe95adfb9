"""The comparison: every system makes every prompt with every seed, and all are judged by the same measures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from melody_cm.comparison.ceilings import REAL_CLIPS, Music, ceilings
from melody_cm.comparison.clips import Clips, Task, describe_pipeline, placement_of
from melody_cm.comparison.coherence import Reference
from melody_cm.comparison.real_clips import RealClip
from melody_cm.comparison.report.page import write_results
from melody_cm.comparison.speed import REPETITIONS, measured_speeds
from melody_cm.comparison.total_bar import TotalBar
from melody_cm.evaluation import EmbeddingStatistics, embed
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import Results, compare_rows
from melody_cm.evaluation.uncertainty import MIN_GROUPS
from melody_cm.interfaces import AudioEmbedding, Pipeline
from melody_cm.placement import refuse_unlike_placements
from melody_cm.storage import locked


@dataclass
class System:
    """One side of a comparison: a pipeline, and the numbers of sampling steps it is asked for.

    With `null` the first of them is a row once more, made with other seeds: what is found between the two is chance.
    """

    pipeline: Pipeline
    num_steps: list[int]
    null: bool = False


def compare(
    systems: Mapping[str, System],
    prompts: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    reference: Music,
    embeddings: Sequence[AudioEmbedding],
    out: Path,
    batch_size: int = 8,
    repetitions: int = REPETITIONS,
    real: Music = (),
    answers: Iterable[RealClip] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Results:
    """Generate, judge, time; write `results.json`, `table.md`, `table.csv`, `report.html` and all clips into `out`.

    Every clip draws noise of its own. No loudness is changed before judging. Rows are compared with each other where
    there are at least 8 prompts. What an earlier call left in `out` from the same inputs is used again.

    Args:
        seconds: length of every clip.
        reference: batches of real music with their sample rate (Hz) and the pieces that the clips are of, which is what
            intervals leave out.
        embeddings: spaces of the Frechet and kernel distances, `fad_<name>` and `kad_<name>`, and, where they embed
            texts, of the text correlation; the first one is the report's.
        repetitions: of the speed measurement.
        real: other real music, like `reference`; its first clips are rows, as they are and through every decoder.
        answers: real clips for a reader to hear beside those of the systems.
        metadata: added to the metadata of the results.

    Raises:
        ValueError: a request that some system cannot fulfil, before anything is generated; or another comparison writes
            into `out`.
    """
    out, task = Path(out), Task(prompts, seeds, seconds, batch_size)
    _check(systems, task, embeddings)
    placed = _placed(systems)
    rows = [clips for name, system in systems.items() for clips in clips_of(name, system, task, out)]
    pipelines = {name: system.pipeline for name, system in systems.items()}
    with locked(out / ".lock", f"another comparison writes into {out}; wait for it, or give another folder"):
        with TotalBar(_parts(rows, repetitions)).shown() as bar:
            with bar.part("reference"):
                references = _references(reference, embeddings, bar)
            with bar.part("clips"):
                for row in rows:
                    row.make(bar)
            with bar.part("judging"):
                judged = []
                for row in rows:
                    judged.append(row.judge(references))
                    bar.advance(len(row.task.clips()))
            with bar.part("real music"):
                limits = ceilings(real, pipelines, references, bar)
            with bar.part("speed"):
                speeds, probe = measured_speeds(rows, repetitions, out, bar)
        for row, speed in zip(judged, speeds, strict=True):
            row.facts |= speed
        facts = {
            "prompts": list(prompts),
            "seeds": list(seeds),
            "seconds": seconds,
            "placement": placed,
            "embeddings": [asdict(embedding.identity) for embedding in embeddings],
            "sample_rates": {name: pipeline.sample_rate for name, pipeline in pipelines.items()},
            "systems": {name: describe_pipeline(pipeline) for name, pipeline in pipelines.items()},
            "probe": probe,
            "real_clips": [clip.write(out) for clip in answers],
        }
        differences = compare_rows(judged, fewest=MIN_GROUPS)
        results = Results("compare", provenance(**facts, **(metadata or {})), [*judged, *limits], differences)
        write_results(results, out)
    return results


def _parts(rows: Sequence[Clips], repetitions: int) -> dict[str, int]:
    """How many clips each part makes or hears; how much real music there is, is found out when it is read."""
    clips = sum(len(row.task.clips()) for row in rows)
    heard = {"reference": REAL_CLIPS, "clips": clips, "judging": clips, "real music": REAL_CLIPS}
    return heard | {"speed": len(rows) * (repetitions + 1)}


def _placed(systems: Mapping[str, System]) -> dict[str, Any]:
    """On which device and in which precision all systems work, those aside whose clips are there already.

    Raises:
        ValueError: not all on the same, or not equally precise.
    """
    found = [facts for system in systems.values() if (facts := placement_of(system.pipeline))]
    for facts in found:
        refuse_unlike_placements({"placement": found[0]}, {"placement": facts})
    return found[0] if found else {}


def clips_of(name: str, system: System, task: Task, out: Path) -> list[Clips]:
    """The rows of one system, the null row last."""
    rows = [Clips(name, system.pipeline, steps, task, out) for steps in system.num_steps]
    if system.null:
        others = replace(task, seeds=[seed + max(task.seeds) + 1 for seed in task.seeds])
        rows.append(replace(rows[0], name=f"{name}-null", task=others, null_of=rows[0].title))
    return rows


def _check(systems: Mapping[str, System], task: Task, embeddings: Sequence[AudioEmbedding]) -> None:
    prompts, seeds, seconds = task.prompts, task.seeds, task.seconds
    if not systems or not prompts or not seeds or not embeddings or task.batch_size < 1:
        raise ValueError(
            f"a comparison needs systems, prompts, seeds, embeddings and batches, got {len(systems)} system(s), "
            f"{len(prompts)} prompt(s), {len(seeds)} seed(s), {len(embeddings)} embedding(s), batch_size "
            f"{task.batch_size}"
        )
    names = [embedding.name for embedding in embeddings]
    for what, values in (("prompts", prompts), ("seeds", seeds), ("embeddings", names)):
        if len(set(values)) < len(values):
            raise ValueError(f"{what} repeat in {list(values)}; every clip is counted once, so name each once")
    for name, system in systems.items():
        if not name or Path(name).name != name:
            raise ValueError(f"system name {name!r} cannot name a folder; use letters, digits, - and _")
        if not system.num_steps or min(system.num_steps) < 1:
            raise ValueError(f"num_steps of {name} is {system.num_steps}; give at least one number, each at least 1")
        if getattr(system.pipeline, "recorded", False) and (len(seeds) > 1 or system.null):
            raise ValueError(f"{name} has one clip a prompt; compare it with a single seed, not {list(seeds)}, no null")
        limit = getattr(system.pipeline, "longest_seconds", system.pipeline.max_seconds)
        if not 0 < seconds <= limit:
            raise ValueError(f"{seconds:g} seconds asked for, but {name} makes at most {limit:g}; ask for {limit:g}")


def _references(reference: Music, embeddings: Sequence[AudioEmbedding], bar: TotalBar) -> list[Reference]:
    found = [Reference(embedding, EmbeddingStatistics.empty(embedding.width)) for embedding in embeddings]
    for waveform, sample_rate, pieces in reference:
        for one in found:
            one.statistics.add(embed(one.embedding, waveform, sample_rate).cpu(), pieces)
        bar.advance(len(waveform))
    if not found[0].statistics.num_clips:
        raise ValueError("the reference holds no usable clip; give real music to compare with")
    return found
