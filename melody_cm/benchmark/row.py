"""One row of a comparison: a system at one number of steps makes every prompt with every seed.

It is judged by the files it wrote, so that a comparison that was broken off and one that was not cannot differ.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from rich.progress import Progress
from torch import Tensor

from melody_cm.benchmark.coherence import Coherence
from melody_cm.benchmark.reference import Reference
from melody_cm.data import write_audio
from melody_cm.evaluation import Judge, embed
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.storage import hash_data, read_json, write_json

SILENT_PEAK = 1e-3


@dataclass
class Row:
    """One system at one number of steps.

    Attributes:
        name: of the system; pipeline, num_steps, seconds: how it makes each clip.
        prompts, seeds: every prompt is made with every seed.
        batch_size: clips at a time; a batch is made whole or not at all, so that a clip is always made among the same.
        out: the folder of the comparison.
    """

    name: str
    pipeline: Pipeline
    num_steps: int
    prompts: Sequence[str]
    seeds: Sequence[int]
    seconds: float
    batch_size: int
    out: Path

    @property
    def title(self) -> str:
        """How people call the row."""
        return row_title({"system": self.name, "num_steps": self.num_steps})

    @property
    def key(self) -> str:
        """Everything that decides how the clips sound."""
        made = [list(self.prompts), list(self.seeds), float(self.seconds), self.num_steps, self.batch_size]
        return hash_data([made, describe_pipeline(self.pipeline)])

    @property
    def coherence(self) -> Coherence:
        """What of it can be asked of clips as long as these."""
        return Coherence.of(self.pipeline, self.seconds)

    @property
    def folder(self) -> Path:
        """Where the clips lie, relative to the comparison's folder."""
        return Path("audio") / self.name / str(self.num_steps)

    def file(self, prompt: int, seed: int) -> Path:
        """A clip's file, relative to the comparison's folder."""
        return self.folder / f"prompt{prompt:03d}_seed{seed}.wav"

    def make(self, progress: Progress) -> None:
        """Write the clips that are not there yet; those of an older, different row are deleted first."""
        folder = self.out / self.folder
        if not (folder / "made_from.json").is_file() or read_json(folder / "made_from.json") != {"key": self.key}:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(folder / "made_from.json", {"key": self.key})
        task = progress.add_task(self.title, total=len(self.prompts) * len(self.seeds))
        for seed, places in self.batches():
            files = [self.out / self.file(place, seed) for place in places]
            if not all(file.is_file() for file in files):
                prompts = [self.prompts[place] for place in places]
                made = self.pipeline.generate(prompts, self.seconds, [seed] * len(places), self.num_steps)
                for file, waveform in zip(files, made.waveform.cpu(), strict=True):
                    write_audio(file, waveform, made.sample_rate)
            progress.advance(task, len(places))

    def batches(self) -> Iterator[tuple[int, list[int]]]:
        """Seed by seed, the places of the prompts of each batch."""
        for seed in self.seeds:
            for start in range(0, len(self.prompts), self.batch_size):
                yield seed, list(range(start, min(start + self.batch_size, len(self.prompts))))

    def judge(self, references: Sequence[Reference]) -> dict[str, Any]:
        """What the files are worth; read from disk where the same files were judged in the same way before."""
        keys = [reference.key for reference in references]
        made_from = {"clips": self.key, "references": keys, **self.coherence.made_from}
        file = self.out / "rows" / f"{self.name}_{self.num_steps}.json"
        kept = read_json(file) if file.is_file() else {}
        if kept.get("made_from") != made_from:
            kept = {"made_from": made_from, "row": self._judged(references)}
            write_json(file, kept)
        return kept["row"]

    def _judged(self, references: Sequence[Reference]) -> dict[str, Any]:
        clips = self.read()
        metrics: dict[str, Any] = {}
        by_prompt: dict[str, list[float | None]] = {}
        for reference in references:
            judge = self._judge(reference, clips)
            metrics |= {key: score.as_dict() for key, score in judge.scores().items()}
            by_prompt |= self._by_prompt(judge)
        coherence = self.coherence.scores(clips, self.pipeline.sample_rate, references)
        metrics |= {key: score.as_dict() for key, score in coherence.items()}
        return {
            "system": self.name,
            "num_steps": self.num_steps,
            "metrics": metrics,
            "by_prompt": by_prompt,
            "prompt_sensitivity": prompt_sensitivity(clips),
            "silent_clips": int((clips.abs().amax(-1) < SILENT_PEAK).sum()),
            "random_weights": getattr(self.pipeline, "random_weights", False),
            "clips": [
                {"prompt": prompt, "seed": seed, "file": self.file(prompt, seed).as_posix()}
                for seed in self.seeds
                for prompt in range(len(self.prompts))
            ],
        }

    def read(self) -> Float[Tensor, "seeds prompts t"]:
        """The clips as they were written."""
        rows = [[self._read(prompt, seed) for prompt in range(len(self.prompts))] for seed in self.seeds]
        return torch.stack([torch.stack(row) for row in rows])

    def _read(self, prompt: int, seed: int) -> Float[Tensor, " t"]:
        return torch.from_numpy(soundfile.read(self.out / self.file(prompt, seed), dtype="float32")[0])

    def _judge(self, reference: Reference, clips: Float[Tensor, "seeds prompts t"]) -> Judge:
        prompts = {self._id(place, seed): self.prompts[place] for seed, place in self._places()}
        judge = Judge(reference.embedding, prompts)
        judge.reference(reference.statistics)
        for seed, places in self.batches():
            waveforms = clips[list(self.seeds).index(seed), places][:, None]
            frames = embed(reference.embedding, waveforms, self.pipeline.sample_rate).cpu()
            # The clips of one prompt resemble each other: they are left out together.
            judge.add(frames, [self._id(place, seed) for place in places], [self.prompts[place] for place in places])
        return judge

    def _by_prompt(self, judge: Judge) -> dict[str, list[float | None]]:
        """Measures that every clip has by itself, averaged over seeds, prompt by prompt; what pairs are compared by."""
        name = judge.embedding.name
        found = {f"song_distance_{name}": judge.songs, f"text_similarity_{name}": judge.similarities}
        places = range(len(self.prompts))
        return {key: [self._mean(values, place) for place in places] for key, values in found.items() if values}

    def _mean(self, values: Mapping[str, float], place: int) -> float | None:
        own = [values[self._id(place, seed)] for seed in self.seeds if self._id(place, seed) in values]
        return sum(own) / len(own) if own else None

    def _places(self) -> Iterator[tuple[int, int]]:
        for seed, places in self.batches():
            for place in places:
                yield seed, place

    def _id(self, place: int, seed: int) -> str:
        return f"seed {seed}, prompt {place}"


def row_title(row: Mapping[str, Any]) -> str:
    """How people call a row of the results."""
    return f"{row['system']}, {row['num_steps']} steps"


def describe_pipeline(pipeline: Pipeline) -> Any:
    """Plain data that is the same for two pipelines only if they make the same music."""
    if isinstance(pipeline, PretrainedPipeline):
        return {"settings": pipeline.settings(), "weights": pipeline.weight_hashes()}
    return pipeline.identity() if hasattr(pipeline, "identity") else type(pipeline).__name__


def longest_seconds(pipeline: Pipeline) -> float:
    """The longest clip that may be asked for."""
    return pipeline.longest_seconds if isinstance(pipeline, PretrainedPipeline) else pipeline.max_seconds


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
