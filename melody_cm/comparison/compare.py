"""The comparison: every system makes every prompt with every seed, and all are judged by the same measures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from melody_cm.comparison.clips import Clips, Task, describe_pipeline
from melody_cm.comparison.coherence import Reference
from melody_cm.comparison.report.page import write_results
from melody_cm.comparison.speed import REPETITIONS, measured_speeds
from melody_cm.evaluation import EmbeddingStatistics, embed
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import Results, compare_rows
from melody_cm.evaluation.uncertainty import bootstrap_interval
from melody_cm.interfaces import AudioEmbedding, Pipeline


@dataclass
class System:
    """One side of a comparison: a pipeline, and the numbers of sampling steps it is asked for."""

    pipeline: Pipeline
    num_steps: list[int]


def compare(
    systems: Mapping[str, System],
    prompts: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    reference: Iterable[tuple[Float[Tensor, "b 1 t"], int]],
    embeddings: Sequence[AudioEmbedding],
    out: Path,
    batch_size: int = 8,
    repetitions: int = REPETITIONS,
    metadata: Mapping[str, Any] | None = None,
) -> Results:
    """Generate, judge, time; write `results.json`, `table.md`, `table.csv`, `report.html` and all clips into `out`.

    All prompts share each seed, so that clips of one seed differ by their prompt alone. No loudness is changed before
    judging. What an earlier call left in `out` from the same inputs is used again.

    Args:
        seconds: length of every clip.
        reference: batches of real music with their sample rate (Hz).
        embeddings: spaces of the Frechet and kernel distances, `fad_<name>` and `kad_<name>`, and, where they embed
            texts, of the text correlation; the first one is the report's.
        repetitions: of the speed measurement.
        metadata: added to the metadata of the results.

    Raises:
        ValueError: a request that some system cannot fulfil, before anything is generated.
    """
    out, task = Path(out), Task(prompts, seeds, seconds, batch_size)
    _check(systems, task, embeddings)
    rows = [Clips(name, one.pipeline, steps, task, out) for name, one in systems.items() for steps in one.num_steps]
    with Progress(console=Console(stderr=True)) as progress:
        references = _references(reference, embeddings, progress)
        for row in rows:
            row.make(progress)
        judged = [row.judge(references) for row in rows]
        speeds, probe = measured_speeds(rows, repetitions, out, progress)
    for row, speed in zip(judged, speeds, strict=True):
        row.facts |= speed
    pipelines = {name: system.pipeline for name, system in systems.items()}
    facts = {
        **{"prompts": list(prompts), "seeds": list(seeds), "seconds": seconds},
        "embeddings": [asdict(embedding.identity) for embedding in embeddings],
        "sample_rates": {name: pipeline.sample_rate for name, pipeline in pipelines.items()},
        "systems": {name: describe_pipeline(pipeline) for name, pipeline in pipelines.items()},
        "probe": probe,
    }
    differences = compare_rows(judged, interval=bootstrap_interval)
    results = Results("compare", provenance(**facts, **(metadata or {})), judged, differences)
    write_results(results, out)
    return results


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
        limit = getattr(system.pipeline, "longest_seconds", system.pipeline.max_seconds)
        if not 0 < seconds <= limit:
            raise ValueError(f"{seconds:g} seconds asked for, but {name} makes at most {limit:g}; ask for {limit:g}")


def _references(
    reference: Iterable[tuple[Float[Tensor, "b 1 t"], int]], embeddings: Sequence[AudioEmbedding], progress: Progress
) -> list[Reference]:
    found = [Reference(embedding, EmbeddingStatistics.empty(embedding.width)) for embedding in embeddings]
    seen = 0
    for waveform, sample_rate in progress.track(reference, description="reference"):
        clips = [f"reference {seen + row}" for row in range(len(waveform))]
        for one in found:
            one.statistics.add(embed(one.embedding, waveform, sample_rate).cpu(), clips)
        seen += len(waveform)
    if seen == 0:
        raise ValueError("the reference holds no usable clip; give real music to compare with")
    return found
