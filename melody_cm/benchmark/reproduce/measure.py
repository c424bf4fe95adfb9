"""Running what stands behind the papers' tables, all in one run, so that what they share is trained once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.benchmark.ablation import ablate
from melody_cm.benchmark.compare_recipe import CompareRecipe, compare_recipe, plan_systems, read_compare_recipe
from melody_cm.benchmark.costs import passes_of_a_clip
from melody_cm.benchmark.reproduce.claims import counted
from melody_cm.benchmark.reproduce.experiments import (
    EXPERIMENTS,
    Ablate,
    Compare,
    CountPasses,
    Experiment,
    LongMusic,
)
from melody_cm.benchmark.reproduce.page import markdown
from melody_cm.configuration import find_file, shipped
from melody_cm.evaluation.coherence import segment_similarity, waveform_seam_ratio
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.evaluation.forward_passes import melody_passes, musiclm_passes, saving
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import Results, Row, compare_rows
from melody_cm.evaluation.score import Score
from melody_cm.interfaces import Pipeline
from melody_cm.pipelines import MusicCM, PretrainedPipeline
from melody_cm.runs import Run, Setting
from melody_cm.storage import write_text

FEWEST_PROMPTS = 8  # A bootstrap over fewer prompts makes intervals that are too narrow.
LENGTHS = (10, 30)  # Seconds that the paper speaks of.


def reproduce(
    name: str, setting: Setting, run: Run, out: Path, seeds: Sequence[int] = (0, 1, 2), clips: int = 64
) -> Results:
    """Run what stands behind one table of a paper, and judge the paper's claims; writes NAME.json and NAME.md.

    Args:
        name: a key of `EXPERIMENTS`.
        setting: size, machine and corpus.
        run: where all stages are trained.
        out: folder of the results.
        seeds: of trainings that are compared; clips: test clips that ablations are judged by.

    Returns:
        our rows and differences; `metadata` has the paper's own figures under `paper`, the verdicts under `claims`.

    Raises:
        ValueError: no such table, or too few seeds or clips, before any work.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"there is no table {name!r}; tables: {', '.join(EXPERIMENTS)}, or all")
    if len(seeds) < 2 or clips < 2:
        raise ValueError(f"seeds {list(seeds)} and {clips} clips have no spread; give at least 2 of each")
    recipe = read_compare_recipe(f"recipes/compare/{setting.size}.yaml")
    work = _Work(setting, run, Path(out), seeds, clips, recipe)
    results = judged(EXPERIMENTS[name], work.do(EXPERIMENTS[name].run, Path(out) / name))
    facts = {"table": name, "size": setting.size, "corpus": setting.corpus or "procedural", "run": run.name}
    results.metadata = provenance(**facts, seeds=list(seeds), **results.metadata)
    results.write(Path(out) / f"{name}.json")
    write_text(Path(out) / f"{name}.md", markdown(EXPERIMENTS[name], results))
    return results


def judged(experiment: Experiment, results: Results) -> Results:
    """The results with the paper's figures and the verdict on each of its claims in their metadata."""
    paper = {
        "title": experiment.title,
        "source": experiment.source,
        "setting": experiment.setting,
        "figures": [asdict(figure) for figure in experiment.published],
        "not_measured": experiment.not_measured,
    }
    claims = [asdict(claim.judge(results)) for claim in experiment.claims]
    return replace(results, verb="reproduce", metadata={"paper": paper, "claims": claims})


@dataclass
class _Work:
    """What all experiments share."""

    setting: Setting
    run: Run
    out: Path
    seeds: Sequence[int]
    clips: int
    recipe: CompareRecipe

    def do(self, what: Compare | Ablate | CountPasses | LongMusic, out: Path) -> Results:
        """Train what is missing, and measure."""
        if isinstance(what, Compare):
            return of_comparison(compare_recipe(self._with(what.systems), self.run, out, self.setting, True))
        if isinstance(what, Ablate):
            folder, baseline = shipped(what.folder), what.recipes[0]
            asked = (self.seeds, what.steps, self.clips, baseline, what.recipes)
            return ablate(folder, self.setting, self.run, out, *asked)
        if isinstance(what, CountPasses):
            return of_passes(self._pipelines(what.systems), what.systems, self.recipe.prompts[0])
        pipeline = self._pipelines([what.system])[what.system]
        return of_long_music(pipeline, self.recipe.prompts, self.recipe.seeds, what)

    def _with(self, systems: Mapping[str, Sequence[int]]) -> CompareRecipe:
        """The comparison of this size with other systems."""
        presets = {name: str(find_file(f"configs/pipeline/{name}.yaml")) for name in systems}
        chosen = {name: {"pipeline": presets[name], "num_steps": list(steps)} for name, steps in systems.items()}
        return replace(self.recipe, systems=chosen)

    def _pipelines(self, systems: Iterable[str]) -> dict[str, Pipeline]:
        recipe = replace(self._with({name: [1] for name in systems}), embeddings=[])
        self.run.train(plan_systems(recipe, self.setting))
        return {name: self.run.pipeline(name) for name in systems}


def of_comparison(results: Results) -> Results:
    """A comparison with the speeds among the scores, and with the differences over enough prompts."""
    for row in results.rows:
        row.metrics |= _speed(row.facts["speed"])
    differences = [one for one in results.differences if one.n is not None and one.n >= FEWEST_PROMPTS]
    return replace(results, differences=differences)


def _speed(speed: Mapping[str, Any] | None) -> dict[str, Score]:
    """Times and seconds; the range of the repetitions stands for an interval."""
    if speed is None:
        return {}
    (low, high), count = speed["times_real_time_range"], speed["repetitions"]
    times, method = speed["times_real_time"], "median and range of the repetitions"
    return {
        "times_real_time": Score(times, None, low, high, method, count, None, False),
        "wall_seconds": Score(speed["wall_seconds"], None, None, None, method, count, None, False),
    }


def of_passes(pipelines: Mapping[str, PretrainedPipeline], num_steps: Mapping[str, int], prompt: str) -> Results:
    """The formulas for the paper's lengths, and one clip of each system, counted."""
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


def of_long_music(pipeline: MusicCM, prompts: Sequence[str], seeds: Sequence[int], what: LongMusic) -> Results:
    """How music of several windows hangs together (MusicCM, section 3.3), made with one canvas for all and with one
    for each, clip by clip: `seam_ratio` where independent windows meet, and `adjacent_similarity_logmel` of pieces as
    long as a window."""
    seconds = what.windows * float(pipeline.max_seconds)
    joints = pipeline.window_seconds(seconds, windows="independent")[1:]
    values = {}
    for windows in ("independent", "shared"):
        seams, similarities = [], []
        for seed in seeds:
            made = pipeline.generate(prompts, seconds, [seed] * len(prompts), what.num_steps, windows=windows)
            seams.append(waveform_seam_ratio(made.waveform, made.sample_rate, joints))
            similarities += [_similarity(clip, made.sample_rate, pipeline.max_seconds) for clip in made.waveform]
        values[windows] = {"seam_ratio": torch.cat(seams), "adjacent_similarity_logmel": torch.tensor(similarities)}
    return clip_by_clip(values, "independent")


def _similarity(clip: Float[Tensor, "1 t"], sample_rate: int, seconds: float) -> float:
    return segment_similarity(LogMelEmbedding(), clip[None], sample_rate, seconds).adjacent


def clip_by_clip(values: Mapping[str, Mapping[str, Float[Tensor, " n"]]], baseline: str) -> Results:
    """Rows of means over clips, and differences to the baseline clip by clip; what is not finite is left out."""
    rows = []
    for label, quantities in values.items():
        row = Row(label, {})
        for key, ours in quantities.items():
            numbers = enumerate(ours.double().tolist())
            row.samples[key] = {f"clip {place}": value for place, value in numbers if abs(value) < float("inf")}
            row.metrics[key] = Score.mean(list(row.samples[key].values()), "mean over clips; Student's interval")
        rows.append(row)
    return Results("reproduce", {}, rows, compare_rows(rows, baseline))
