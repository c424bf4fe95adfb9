"""An ablation: recipes that differ in one thing, each trained with several seeds, in one table with mean and spread."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress

from melody_cm.comparison.clips import remembered
from melody_cm.comparison.report.page import write_results
from melody_cm.comparison.stage_measures import (
    denoising_measures,
    held_back_clips,
    one_step_measures,
    sample_scores,
    sampling_errors,
)
from melody_cm.diffusion import DDIMSampler
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.evaluation.provenance import provenance
from melody_cm.evaluation.results import Results, Row, compare_rows
from melody_cm.evaluation.score import Score
from melody_cm.placement import Placement
from melody_cm.runs import Recipe, Run, Setting, load_training, plan_stages, recipe_folder, stage_weights
from melody_cm.storage import build, hash_data
from melody_cm.training import ConsistencyDistillation

# What only says how a trained denoiser is sampled: recipes that differ in nothing else share one training.
SAMPLING_KEYS = ("schedule", "sampler", "num_steps", "guidance_scale")


@dataclass
class Variant:
    """One recipe with one seed.

    Attributes:
        name: of the recipe.
        seed: of its training and sampling.
        trained: what is trained for it; variants that are only sampled differently name the same stage.
        sampled: how that is sampled.
    """

    name: str
    seed: int
    trained: Recipe
    sampled: Recipe


def ablate(
    folder: Path | str,
    setting: Setting,
    run: Run,
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = (),
    clips: int = 64,
    baseline: str | None = None,
    recipes: Sequence[str] | None = None,
) -> Results:
    """Train what is missing, measure what is new; writes results.json, tables and report.html into `out`.

    Args:
        folder: of recipes, such as recipes/ablations/network.
        setting: size, machine, corpus and overrides of the trainings.
        run: holds all trainings.
        seeds: of trainings and sampling.
        steps: of sampling; none: those of each recipe.
        clips: number of test clips that each is measured on.
        baseline: the recipe that the others are compared with; None: the first by name.
        recipes: the names of those that are compared, in order; None: all.

    Raises:
        ValueError: a request that cannot be fulfilled, before anything is trained.
    """
    variants = plan_ablation(folder, setting, seeds, steps, clips, baseline, recipes)
    baseline = baseline or variants[0].name
    run.train(stages_in_order(variants, setting))
    run.enter()
    rows = over_seeds(measure_all(variants, run, Path(out), steps, clips, setting.placement))
    facts = {"folder": str(folder), "size": setting.size, "corpus": setting.corpus or "procedural"}
    facts |= {"overrides": list(setting.overrides), "clips": clips, "seeds": list(seeds), "baseline": baseline}
    facts |= {"embeddings": [asdict(LogMelEmbedding().identity)], "placement": setting.placement.facts()}
    results = Results("ablate", provenance(**facts), rows, compare_rows(rows, baseline))
    write_results(results, Path(out))
    return results


def plan_ablation(
    folder: Path | str,
    setting: Setting,
    seeds: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = (),
    clips: int = 64,
    baseline: str | None = None,
    recipes: Sequence[str] | None = None,
) -> list[Variant]:
    """What `ablate` would train and measure, seed by seed within a recipe; the arguments are the same.

    Raises:
        ValueError: a request that cannot be fulfilled.
    """
    for what, numbers in (("seeds", seeds), ("steps", steps)):
        if len(set(numbers)) < len(numbers) or min(numbers, default=0) < 0:
            raise ValueError(f"{what} {list(numbers)} must be different numbers from 0 on")
    if clips < 2:
        raise ValueError(f"{clips} clips give no distance; take at least 2")
    found = recipe_folder(folder)
    paths = {path.stem: path for path in sorted(found.glob("*.yaml"))} if found else {}
    if len(paths) < 2:
        raise ValueError(f"{folder} holds {len(paths)} recipe(s); an ablation compares at least two")
    if not seeds:
        raise ValueError("an ablation needs at least one seed; give some, like 0,1,2")
    names = list(recipes or paths)
    if baseline is not None and baseline not in names:
        raise ValueError(f"the baseline {baseline} is none of {', '.join(names)}")
    trainings: dict[str, Recipe] = {}
    variants = []
    for name in names:
        for seed in seeds:
            recipe = replace(setting, overrides=[*setting.overrides, f"--seed_everything={seed}"]).compose(paths[name])
            key = training_key(recipe, without=SAMPLING_KEYS)
            # The name tells trainings apart, so that ablations in one run share them.
            named = f"ablations/{training_key(recipe)[:12]}/seed{seed}"
            variants.append(Variant(name, seed, trainings.setdefault(key, replace(recipe, name=named)), recipe))
        _check_steps(variants[-1], steps)
    return variants


def _check_steps(variant: Variant, steps: Sequence[int]) -> None:
    """Refuse, before the trainings, steps that the schedule of a recipe cannot do."""
    schedule = build(variant.sampled.config["model"]["init_args"]["schedule"])
    for num_steps in steps:
        try:
            schedule.angles(num_steps)
        except ValueError as error:
            raise ValueError(f"{num_steps} steps, recipe {variant.name}: {error}") from error


def training_key(recipe: Recipe, without: Sequence[str] = ()) -> str:
    """A hash of what a training depends on; the arguments of the model named in `without` are left out."""
    model = {**recipe.config["model"]}
    model["init_args"] = {name: value for name, value in model["init_args"].items() if name not in without}
    return hash_data([model, recipe.config["data"], recipe.planned_steps, recipe.config["seed_everything"]])


def stages_in_order(variants: Sequence[Variant], setting: Setting) -> list[Recipe]:
    """What the variants need, as it is without overrides, then what is trained for them, each once."""
    needs = list(dict.fromkeys(stage for variant in variants for stage in variant.trained.needs))
    trained = {variant.trained.name: variant.trained for variant in variants}
    return [*plan_stages(needs, replace(setting, overrides=())), *trained.values()]


def measure_all(
    variants: Sequence[Variant], run: Run, out: Path, steps: Sequence[int], num_clips: int, placement: Placement
) -> dict[int, list[Row]]:
    """The rows of every seed; those that were measured before on the same weights are read, not measured again."""
    rows: dict[int, list[Row]] = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=len(variants))
        for variant in variants:
            file = out / "cells" / f"{variant.name}_seed{variant.seed}.json"
            found = remembered(
                file,
                _made_from(variant, steps, num_clips, placement),
                lambda one=variant: [asdict(row) for row in measure(one, run, steps, num_clips, placement)],
            )
            rows.setdefault(variant.seed, []).extend(msgspec.convert(found, list[Row]))
            progress.advance(task)
    return rows


def _made_from(variant: Variant, steps: Sequence[int], num_clips: int, placement: Placement) -> dict[str, Any]:
    """Everything that decides what a variant's measures are."""
    slots = variant.sampled.config["model"]["init_args"]
    return {
        "weights": {stage: stage_weights(stage) for stage in [variant.trained.name, *variant.trained.needs]},
        "sampling": {key: slots[key] for key in SAMPLING_KEYS if key in slots},
        "data": variant.sampled.config["data"],
        "embedding": str(LogMelEmbedding().identity),
        "steps": list(steps),
        "clips": num_clips,
        "placement": placement.facts(),
    }


def measure(variant: Variant, run: Run, steps: Sequence[int], num_clips: int, placement: Placement) -> Iterator[Row]:
    """What one training gave: its denoising, then its samples at each number of steps."""
    stage, data = load_training(variant.sampled, run.folder(variant.trained.name))
    placement.put([stage.eval()])
    clips = held_back_clips(data, num_clips, device=stage.device)
    distilled = isinstance(stage, ConsistencyDistillation)
    yield Row(variant.name, (one_step_measures if distilled else denoising_measures)(stage, clips))
    steps = list(steps) or [stage.num_steps]
    deterministic = not distilled and isinstance(stage.sampler, DDIMSampler)
    errors = sampling_errors(stage, clips, steps) if deterministic else [None] * len(steps)
    for num_steps, error in zip(steps, errors, strict=True):
        scores = sample_scores(stage, clips, num_steps, LogMelEmbedding().to(placement.device))
        yield Row(variant.name, scores if error is None else {**scores, "sampling_error": error}, num_steps)


def over_seeds(rows: Mapping[int, Sequence[Row]]) -> list[Row]:
    """One row for each recipe and number of steps: means over seeds, with Student's interval and the spread."""
    merged: dict[str, Row] = {}
    kept: dict[str, dict[str, list[Score]]] = {}
    for seed, own in rows.items():
        for row in own:
            into = merged.setdefault(row.title, Row(row.label, {}, row.num_steps))
            for key, score in row.metrics.items():
                if score.value is not None:
                    into.samples.setdefault(key, {})[f"seed {seed}"] = score.value
                    kept.setdefault(row.title, {}).setdefault(key, []).append(score)
    for title, scores in kept.items():
        merged[title].metrics = {key: _mean(own) for key, own in scores.items()}
    return list(merged.values())


def _mean(scores: Sequence[Score]) -> Score:
    values = [score.value for score in scores]
    return Score.mean(
        values,
        "mean over seeds; Student's interval",
        n_generated=min(score.n_generated for score in scores),
        n_reference=scores[0].n_reference,
        too_few=any(score.too_few for score in scores),
        embedding=scores[0].embedding,
        details={"std": statistics.stdev(values)} if len(values) > 1 else {},
    )
