"""The comparison: every system makes every prompt with every seed, and all are judged by the same measures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from melody_cm.benchmark.machine import describe_machine
from melody_cm.benchmark.passes import passes_of_a_clip
from melody_cm.benchmark.speed import measure_speed
from melody_cm.benchmark.table import markdown_table
from melody_cm.data import write_audio
from melody_cm.evaluation import EmbeddingStatistics, Judge, embed
from melody_cm.evaluation.forward_passes import PassCounter
from melody_cm.interfaces import AudioEmbedding, Pipeline
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.storage import write_json, write_text

SCHEMA_VERSION = 2
SILENT_PEAK = 1e-3


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
    embedding: AudioEmbedding,
    out: Path,
    batch_size: int = 8,
    repetitions: int = 3,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Generate, judge, time; write `results.json`, `table.md` and `audio/<system>/<num_steps>/*.wav` into `out`.

    All prompts share each seed, so that clips of one seed differ by their prompt alone.

    Args:
        seconds: length of every clip.
        reference: batches of real music with their sample rate (Hz).
        embedding: the space of the Frechet and kernel distances, `fad_<name>` and `kad_<name>`.
        repetitions: of the speed measurement.
        metadata: added to the metadata of the results.

    Returns:
        the content of `results.json`: schema_version, metadata, rows.

    Raises:
        ValueError: a request that some system cannot fulfil, before anything is generated.
    """
    _check(systems, prompts, seeds, seconds, batch_size)
    with Progress(console=Console(stderr=True)) as progress:
        statistics = _reference_side(reference, embedding, progress)
        rows = []
        for name, system in systems.items():
            for num_steps in system.num_steps:
                row = Row(name, system.pipeline, num_steps, prompts, seeds, seconds, Path(out))
                rows.append(row.measure(statistics, embedding, batch_size, repetitions, progress))
    results = {
        "schema_version": SCHEMA_VERSION,
        "metadata": {**_metadata(systems, prompts, seeds, seconds, embedding), **(metadata or {})},
        "rows": rows,
    }
    write_json(Path(out) / "results.json", results)
    write_text(Path(out) / "table.md", markdown_table(results))
    return results


@dataclass
class Row:
    """One system at one number of steps."""

    name: str
    pipeline: Pipeline
    num_steps: int
    prompts: Sequence[str]
    seeds: Sequence[int]
    seconds: float
    out: Path

    def measure(
        self,
        reference: EmbeddingStatistics,
        embedding: AudioEmbedding,
        batch_size: int,
        repetitions: int,
        progress: Progress,
    ) -> dict[str, Any]:
        """This row of `results.json`."""
        task = progress.add_task(f"{self.name}, {self.num_steps} steps", total=len(self.prompts) * len(self.seeds))
        judge = Judge(embedding)
        judge.reference(reference)
        waveforms: list[Tensor] = []
        networks = self.pipeline.networks if isinstance(self.pipeline, PretrainedPipeline) else {}
        with PassCounter(networks) as counter:
            for prompts, batch in self.generate(batch_size):
                frames = embed(embedding, batch, self.pipeline.sample_rate).cpu()
                judge.add(frames, [f"batch {len(waveforms)}, {prompt}" for prompt in prompts], prompts)
                waveforms.append(batch.cpu())
                progress.advance(task, len(batch))
        clips = torch.cat(waveforms).squeeze(1).unflatten(0, (len(self.seeds), len(self.prompts)))
        return {
            "system": self.name,
            "num_steps": self.num_steps,
            "metrics": {key: score.as_dict() for key, score in judge.scores().items()},
            "prompt_sensitivity": prompt_sensitivity(clips),
            "silent_clips": int((clips.abs().amax(-1) < SILENT_PEAK).sum()),
            "passes": passes_of_a_clip(
                counter, len(waveforms), sum(map(len, waveforms)), self.pipeline, self.seconds, self.num_steps
            ),
            "speed": measure_speed(self.pipeline, self.prompts[0], self.seconds, self.num_steps, repetitions),
            "clips": self.write(clips),
        }

    def generate(self, batch_size: int) -> Iterator[tuple[Sequence[str], Float[Tensor, "b 1 t"]]]:
        """All clips with their prompts, seed by seed, each seed prompt by prompt."""
        for seed in self.seeds:
            for start in range(0, len(self.prompts), batch_size):
                prompts = self.prompts[start : start + batch_size]
                seeds = [seed] * len(prompts)
                yield prompts, self.pipeline.generate(prompts, self.seconds, seeds, self.num_steps).waveform

    def write(self, clips: Float[Tensor, "seeds prompts t"]) -> list[dict[str, Any]]:
        """The clips as WAV files; which file holds which prompt and seed."""
        folder = Path("audio") / self.name / str(self.num_steps)
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        written = []
        for seed, row in zip(self.seeds, clips, strict=True):
            for index, waveform in enumerate(row):
                file = folder / f"prompt{index:03d}_seed{seed}.wav"
                write_audio(self.out / file, waveform, self.pipeline.sample_rate)
                written.append({"prompt": index, "seed": seed, "file": file.as_posix()})
        return written


def prompt_sensitivity(clips: Float[Tensor, "seeds prompts t"]) -> float | None:
    """How much a clip changes with its prompt alone: the RMS of the difference of two prompts' clips under one seed,
    relative to their mean RMS, averaged over pairs and seeds. 0 = deaf to the prompt; about 1.4 = unrelated signals;
    None for a single prompt.
    """
    relative = []
    for first, second in combinations(clips.double().unbind(1), 2):
        scale = (_rms(first) + _rms(second)) / 2
        relative.append(torch.where(scale > 0, _rms(first - second) / scale, 0.0))
    return torch.stack(relative).mean().item() if relative else None


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(-1).sqrt()


def _check(
    systems: Mapping[str, System], prompts: Sequence[str], seeds: Sequence[int], seconds: float, batch_size: int
) -> None:
    if not systems or not prompts or not seeds or batch_size < 1:
        raise ValueError(
            f"a comparison needs systems, prompts, seeds and batches, got {len(systems)} system(s), {len(prompts)} "
            f"prompt(s), {len(seeds)} seed(s), batch_size {batch_size}"
        )
    for what, values in (("prompts", prompts), ("seeds", seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f"{what} repeat in {list(values)}; every clip is counted once, so name each once")
    for name, system in systems.items():
        if not name or Path(name).name != name:
            raise ValueError(f"system name {name!r} cannot name a folder; use letters, digits, - and _")
        if not system.num_steps or min(system.num_steps) < 1:
            raise ValueError(f"num_steps of {name} is {system.num_steps}; give at least one number, each at least 1")
        if not 0 < seconds <= system.pipeline.max_seconds:
            limit = system.pipeline.max_seconds
            raise ValueError(f"{seconds:g} seconds asked for, but {name} makes at most {limit:g}; ask for {limit:g}")


def _reference_side(
    reference: Iterable[tuple[Float[Tensor, "b 1 t"], int]], embedding: AudioEmbedding, progress: Progress
) -> EmbeddingStatistics:
    statistics = EmbeddingStatistics.empty(embedding.width)
    task = progress.add_task("reference", total=None)
    seen = 0
    for waveform, sample_rate in reference:
        clips = [f"reference {seen + row}" for row in range(len(waveform))]
        statistics.add(embed(embedding, waveform, sample_rate).cpu(), clips)
        seen += len(waveform)
        progress.advance(task, len(waveform))
    if statistics.num_clips == 0:
        raise ValueError("the reference holds no usable clip; give real music to compare with")
    progress.update(task, total=seen, completed=seen)
    return statistics


def _metadata(
    systems: Mapping[str, System],
    prompts: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    embedding: AudioEmbedding,
) -> dict[str, Any]:
    pipelines = {name: system.pipeline for name, system in systems.items()}
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "prompts": list(prompts),
        "seeds": list(seeds),
        "seconds": seconds,
        "embedding": asdict(embedding.identity),
        "sample_rates": {name: pipeline.sample_rate for name, pipeline in pipelines.items()},
        "weights": {
            name: pipeline.weight_hashes()
            for name, pipeline in pipelines.items()
            if isinstance(pipeline, PretrainedPipeline)
        },
    }
