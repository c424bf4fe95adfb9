"""One row of a comparison: a system at one number of steps makes every prompt with every seed.

Every clip draws noise of its own, by prompt and seed. If all prompts shared the noise of a seed, they would share its
luck, and what two systems owe to their seeds would pass for a difference.

It is judged by the files that it wrote. So a comparison that was stopped and started again cannot differ from one that
ran through.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.comparison.ceilings import MEAN, MUSIC
from melody_cm.comparison.coherence import Coherence, Reference
from melody_cm.comparison.total_bar import TotalBar
from melody_cm.data import write_audio
from melody_cm.evaluation import Judge, embed
from melody_cm.evaluation.music import music_measures
from melody_cm.evaluation.results import Row
from melody_cm.evaluation.score import Score
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.randomness import keyed_seed
from melody_cm.signal.levels import SILENT_PEAK
from melody_cm.storage import hash_data, read_keys, write_json

PROMPTS_OF_ONE_NOISE = 4  # Six pairs tell a deaf system.


@dataclass(frozen=True)
class Task:
    """What every system of a comparison is asked for.

    Attributes:
        prompts, seeds: every prompt is made with every seed; the i-th seed makes the i-th take of every prompt.
        seconds: length of every clip.
        batch_size: clips at a time; a batch is made whole or not at all, so a clip is always made among the same ones.
    """

    prompts: Sequence[str]
    seeds: Sequence[int]
    seconds: float
    batch_size: int

    def clips(self) -> list[tuple[int, int]]:
        """Every seed with the place of every prompt, seed by seed."""
        return [(seed, place) for seed in self.seeds for place in range(len(self.prompts))]

    def noise_seed(self, place: int, seed: int) -> int:
        """What a clip's noise is drawn from; `melody-cm generate --seed` takes it too."""
        return keyed_seed(seed, f"noise of {self.prompts[place]}", 0, 0) % 2**32  # All that torch uses.

    def batches(self) -> Iterator[tuple[int, list[int]]]:
        """Seed by seed, the places of the prompts of each batch."""
        for seed in self.seeds:
            for start in range(0, len(self.prompts), self.batch_size):
                yield seed, list(range(start, min(start + self.batch_size, len(self.prompts))))


@dataclass
class Clips:
    """The clips of one system at one number of steps.

    Attributes:
        name: of the system; pipeline, num_steps, task: how the clips are made.
        out: the folder of the comparison.
        null_of: the title of the row that differs from this one by its seeds alone, if there is one.
    """

    name: str
    pipeline: Pipeline
    num_steps: int
    task: Task
    out: Path
    null_of: str | None = None

    @property
    def title(self) -> str:
        """How people call the row."""
        return Row(self.name, {}, self.num_steps).title

    @property
    def key(self) -> str:
        """A hash of everything that decides how the clips sound."""
        task = self.task
        seeds = [task.noise_seed(place, seed) for seed, place in task.clips()]
        made = [list(task.prompts), seeds, float(task.seconds), self.num_steps, task.batch_size]
        return hash_data([made, describe_pipeline(self.pipeline), placement_of(self.pipeline)])

    def file(self, prompt: int, seed: int) -> Path:
        """A clip's file, relative to the comparison's folder."""
        return Path("audio") / self.name / str(self.num_steps) / f"prompt{prompt:03d}_seed{seed}.wav"

    def make(self, bar: TotalBar) -> None:
        """Write the clips that are not there yet; clips of an older, different row are deleted first."""
        made_from = self.out / self.file(0, 0).with_name("made_from.json")
        if not made_from.is_file() or read_keys(made_from) != {"key": self.key}:
            shutil.rmtree(made_from.parent, ignore_errors=True)
            write_json(made_from, {"key": self.key})
        for seed, places in self.task.batches():
            files = [self.out / self.file(place, seed) for place in places]
            self._write(files, places, [self.task.noise_seed(place, seed) for place in places])
            bar.advance(len(places))
        if not getattr(self.pipeline, "recorded", False):  # Else nobody knows the noise.
            files = self._of_one_noise()
            for start in range(0, len(files), self.task.batch_size):
                batch = files[start : start + self.task.batch_size]
                self._write(batch, range(start, start + len(batch)), self.task.seeds[:1] * len(batch))

    def _write(self, files: Sequence[Path], places: Sequence[int], noise_seeds: Sequence[int]) -> None:
        if not all(file.is_file() for file in files):
            prompts = [self.task.prompts[place] for place in places]
            made = self.pipeline.generate(prompts, self.task.seconds, list(noise_seeds), self.num_steps)
            for file, waveform in zip(files, made.waveform.cpu(), strict=True):
                write_audio(file, waveform, made.sample_rate)

    def _of_one_noise(self) -> list[Path]:
        """Clips of the first prompts that share their noise, and are asked for nothing but what the prompt changes."""
        folder = (self.out / self.file(0, 0)).parent / "one_noise"
        return [folder / f"prompt{place:03d}.wav" for place in range(min(PROMPTS_OF_ONE_NOISE, len(self.task.prompts)))]

    def read(self) -> Float[Tensor, "seeds prompts t"]:
        """The clips as they were written."""
        files = [self.out / self.file(place, seed) for seed, place in self.task.clips()]
        return _read(files).unflatten(0, (len(self.task.seeds), -1))

    def judge(self, references: Sequence[Reference]) -> Row:
        """What the files are worth; read from disk where the same files were judged in the same way before."""
        coherence = Coherence.of(self.pipeline, self.task.seconds)
        made_from = {"clips": self.key, "references": [one.key for one in references], **coherence.made_from}
        file = self.out / "rows" / f"{self.name}_{self.num_steps}.json"
        return msgspec.convert(remembered(file, made_from, lambda: asdict(self.measure(references, coherence))), Row)

    def measure(self, references: Sequence[Reference], coherence: Coherence) -> Row:
        """The row: distances and text correlation in every embedding, coherence, and what is known of the clips."""
        clips = self.read()
        row = Row(self.name, {}, self.num_steps, facts=self._facts(clips))
        for reference in references:
            judge = self._judge(reference, clips)
            row.metrics |= judge.scores()
            if judge.similarities:
                row.samples[f"text_similarity_{reference.embedding.name}"] = judge.similarities
        # Of the first take of every prompt: pitch takes long to find.
        found = [music_measures(clip, self.pipeline.sample_rate) for clip in clips[0]]
        prompts = [str(place) for place in range(len(found))]
        row.metrics |= {key: Score.mean([one[key] for one in found], MEAN, prompts) for key in MUSIC}
        row.metrics |= coherence.scores(clips, self.pipeline.sample_rate, references)
        return row

    def _facts(self, clips: Float[Tensor, "seeds prompts t"]) -> dict[str, Any]:
        files = self._of_one_noise()
        return {
            "null_of": self.null_of,
            "placement": placement_of(self.pipeline),
            "prompt_sensitivity": prompt_sensitivity(_read(files)) if files[0].is_file() else None,
            "silent_clips": int((clips.abs().amax(-1) < SILENT_PEAK).sum()),
            "random_weights": getattr(self.pipeline, "random_weights", False),
            "clips": [
                {
                    "prompt": place,
                    "seed": seed,
                    "noise_seed": self.task.noise_seed(place, seed),
                    "file": self.file(place, seed).as_posix(),
                }
                for seed, place in self.task.clips()
            ],
        }

    def _judge(self, reference: Reference, clips: Float[Tensor, "seeds prompts t"]) -> Judge:
        prompts, task = self.task.prompts, self.task
        takes = {seed: f"take {take}" for take, seed in enumerate(task.seeds)}
        names = {(seed, place): f"prompt {place}/{takes[seed]}" for seed, place in task.clips()}
        judge = reference.judge({name: prompts[place] for (_, place), name in names.items()})
        for seed, places in task.batches():
            waveforms = clips[list(task.seeds).index(seed), places][:, None]
            frames = embed(reference.embedding, waveforms, self.pipeline.sample_rate).cpu()
            # The clips of one prompt resemble each other: they are left out together.
            own = [prompts[place] for place in places]
            judge.add(frames, [names[seed, place] for place in places], own, [takes[seed]] * len(places))
        return judge


def remembered(file: Path, made_from: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What `make` gave from the same inputs before, read from a file; else it is made now and written there."""
    kept = read_keys(file) if file.is_file() else {}
    if kept.get("made_from") != made_from:
        kept = {"made_from": made_from, "made": make()}
        write_json(file, kept)
    return kept["made"]


def _read(files: Sequence[Path]) -> Float[Tensor, "n t"]:
    return torch.stack([torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files])


def describe_pipeline(pipeline: Pipeline) -> Any:
    """Plain data that is the same for two pipelines only if they make the same music."""
    if isinstance(pipeline, PretrainedPipeline):
        return {"settings": pipeline.settings(), "weights": pipeline.weight_hashes()}
    return pipeline.identity() if hasattr(pipeline, "identity") else type(pipeline).__name__


def placement_of(pipeline: Pipeline) -> dict[str, Any] | None:
    """Where a pipeline works, and how precisely; None for one that only reads."""
    placement = getattr(pipeline, "placement", None)
    return None if placement is None else placement.facts()


def prompt_sensitivity(clips: Float[Tensor, "prompts t"]) -> float | None:
    """How much a clip changes with its prompt alone: 0 is deaf to the prompt, about 1.4 unrelated signals.

    The RMS of the difference of two prompts' clips from the same noise, relative to their mean RMS, averaged over
    pairs; None for a single prompt.
    """

    def rms(x: Tensor) -> Tensor:
        return x.square().mean().sqrt()

    relative = []
    for first, second in combinations(clips.double(), 2):
        scale = (rms(first) + rms(second)) / 2
        relative.append(torch.where(scale > 0, rms(first - second) / scale, 0.0))
    return torch.stack(relative).mean().item() if relative else None
