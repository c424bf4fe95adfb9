"""What is run to see a paper's table for oneself, all in one run, so that what tables share is trained once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.comparison.ablation import ablate
from melody_cm.comparison.clips import Task
from melody_cm.comparison.compare_recipe import CompareRecipe, Side, compare_recipe, plan_systems
from melody_cm.comparison.costs import passes_of_a_clip
from melody_cm.comparison.reproduce.claims import counted
from melody_cm.configuration import find_file, shipped
from melody_cm.evaluation.coherence import segment_similarity, waveform_seam_ratio
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.evaluation.forward_passes import melody_passes, musiclm_passes, saving
from melody_cm.evaluation.results import Results, Row, compare_rows
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import MIN_GROUPS
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import MusicCM, PretrainedPipeline
from melody_cm.runs import Run, Setting

LENGTHS = (10, 30)  # Seconds that the paper speaks of.


@dataclass
class Bench:
    """What all tables are measured with.

    Attributes:
        setting, run: of the stages; what is missing is trained.
        seeds: of trainings that are compared; clips: test clips that ablations are judged by.
        recipe: the comparison of this size, whose prompts, seeds and embeddings are used.
    """

    setting: Setting
    run: Run
    seeds: Sequence[int]
    clips: int
    recipe: CompareRecipe

    def with_systems(self, systems: Mapping[str, Sequence[int]]) -> CompareRecipe:
        """The comparison with other systems, at so many steps each."""
        sides = {name: Side(list(steps), str(self.preset(name))) for name, steps in systems.items()}
        return replace(self.recipe, systems=sides)

    def preset(self, name: str) -> Path:
        """How a system is made: as the comparison has it, which may give it a vocoder, else as it ships."""
        side = self.recipe.systems.get(name)
        return Path(side.pipeline) if side and side.pipeline else find_file(f"configs/pipeline/{name}.yaml")

    def pipelines(self, systems: Iterable[str]) -> dict[str, Pipeline]:
        """The systems, trained where they are not yet."""
        recipe = replace(self.with_systems({name: [1] for name in systems}), embeddings=[])
        self.run.train(plan_systems(recipe, self.setting))
        placement = self.setting.placement
        return {name: self.run.pipeline(self.preset(name)).to(placement.device, placement.dtype) for name in systems}


def compare_systems(systems: Mapping[str, Sequence[int]], bench: Bench, out: Path) -> Results:
    """Systems side by side, each with its numbers of steps; all files of the comparison go into `out`."""
    recipe = bench.with_systems(systems)
    return with_speeds(compare_recipe(recipe, bench.run, out, bench.setting, train_missing=True))


def with_speeds(results: Results) -> Results:
    """A comparison with the speeds among the scores.

    The range of the repetitions stands for the interval of `times_real_time`.
    """
    for row in results.rows:
        if speed := row.facts.get("speed"):  # Real music and noise have none.
            low, high = speed["times_real_time_range"]
            told = "median and range of the repetitions", speed["repetitions"]
            row.metrics["times_real_time"] = Score.bare(speed["times_real_time"], *told, low=low, high=high)
            row.metrics["wall_seconds"] = Score.bare(speed["wall_seconds"], *told)
    return results


def ablate_recipes(folder: str, recipes: Sequence[str], steps: Sequence[int], bench: Bench, out: Path) -> Results:
    """Recipes of a folder, sampled with each number of steps; the first is the baseline. All files go into `out`."""
    return ablate(shipped(folder), bench.setting, bench.run, out, bench.seeds, steps, bench.clips, recipes[0], recipes)


def measure_passes(num_steps: Mapping[str, int], bench: Bench, out: Path) -> Results:
    """`count_passes` of systems, each with its number of steps."""
    return count_passes(bench.pipelines(num_steps), num_steps, bench.recipe.prompts[0])


def count_passes(pipelines: Mapping[str, PretrainedPipeline], num_steps: Mapping[str, int], prompt: str) -> Results:
    """The papers' formulas for the lengths that they speak of, and one clip of each pipeline, counted."""
    rows = []
    for seconds in LENGTHS:
        melody, musiclm = melody_passes(seconds, num_steps["melody"]), musiclm_passes(seconds)
        numbers = {"musiclm passes by formula": musiclm, "melody passes by formula": melody}
        numbers["saved by formula"] = saving(melody, musiclm)
        rows.append(Row(f"{seconds} s", {key: counted(value) for key, value in numbers.items()}))
    here = Row("counted here", {})
    for name, pipeline in pipelines.items():
        seconds = float(pipeline.max_seconds)
        passes = passes_of_a_clip(pipeline, prompt, 0, seconds, num_steps[name])
        total, formula = passes["total"]["batched"], passes["closed_form"]
        here.metrics |= {f"{name} passes for {seconds:g} s": counted(total)}
        here.metrics |= {f"{name} beyond its formula": counted(total - formula)}
    return Results("reproduce", {}, [*rows, here])


def make_long_music(system: str, num_steps: int, windows: int, bench: Bench, out: Path) -> Results:
    """`long_music` of a system."""
    pipeline = bench.pipelines([system])[system]
    return long_music(pipeline, num_steps, windows, bench.recipe.prompts, bench.recipe.seeds)


def long_music(
    pipeline: MusicCM, num_steps: int, windows: int, prompts: Sequence[str], seeds: Sequence[int]
) -> Results:
    """Music of several windows, with one canvas for all and with a canvas for each: `seam_ratio` where independent
    windows meet, and `adjacent_similarity_logmel` of pieces as long as a window (MusicCM, section 3.3)."""
    piece = float(pipeline.max_seconds)
    joints = pipeline.window_seconds(windows * piece, windows="independent")[1:]
    task = Task(prompts, seeds, windows * piece, len(prompts))
    noises = [[task.noise_seed(place, seed) for place in places] for seed, places in task.batches()]
    values = {}
    for kind in ("independent", "shared"):
        made = [pipeline.generate(prompts, windows * piece, noise, num_steps, windows=kind) for noise in noises]
        clips, sample_rate = torch.cat([one.waveform.cpu() for one in made]), pipeline.sample_rate
        alike = [segment_similarity(LogMelEmbedding(), clip[None], sample_rate, piece).adjacent for clip in clips]
        values[kind] = {
            "seam_ratio": waveform_seam_ratio(clips, sample_rate, joints),
            "adjacent_similarity_logmel": torch.tensor(alike),
        }
    names = [f"prompt {prompt}/take {take}" for take in range(len(seeds)) for prompt in range(len(prompts))]
    return clip_by_clip(values, "independent", names)


def clip_by_clip(
    values: Mapping[str, Mapping[str, Float[Tensor, " n"]]], baseline: str, names: Sequence[str]
) -> Results:
    """Rows of means over clips, named GROUP/MEMBER, and differences to the baseline clip by clip, with intervals over
    groups; none for fewer than 8 groups. What is not finite is left out."""
    rows = []
    for label, quantities in values.items():
        row = Row(label, {})
        for key, ours in quantities.items():
            numbers = ours.double().tolist()
            row.samples[key] = {name: value for name, value in zip(names, numbers, strict=True) if math.isfinite(value)}
            groups, _, members = zip(*(name.partition("/") for name in names), strict=True)
            row.metrics[key] = Score.mean(numbers, "mean over clips; Student's interval over prompts", groups, members)
        rows.append(row)
    return Results("reproduce", {}, rows, compare_rows(rows, baseline, MIN_GROUPS))
