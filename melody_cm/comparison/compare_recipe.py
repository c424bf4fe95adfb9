"""A comparison as a recipe: one YAML file names systems, prompts, seeds and measures; a run holds the stages."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from melody_cm.comparison.baselines import open_baseline
from melody_cm.comparison.ceilings import Music
from melody_cm.comparison.compare import System, compare
from melody_cm.comparison.real_clips import RealClip, nearest_captions
from melody_cm.configuration import check_arguments, find_file, open_slot, read_yaml, shipped
from melody_cm.data import OTHER_NAMES, SPLITS, MusicDataModule, Split, open_corpus, read_prompts, read_split
from melody_cm.evaluation.embeddings.official import OptionalDependencyError
from melody_cm.evaluation.results import Results
from melody_cm.interfaces import AudioEmbedding, Pipeline
from melody_cm.placement import Placement
from melody_cm.runs import Recipe, Run, Setting, build_data, open_source, plan_stages, stages_of
from melody_cm.runs.recipe import find_recipe

log = logging.getLogger(__name__)

SAMPLE_RATE = 24000  # Hz, at which real music is read where no recipe of a stage says it.


@dataclass
class Side:
    """A system of the recipe: the numbers of steps that it is asked for, and the preset of its pipeline, which the run
    has trained, or the source of one that is finished (`open_source`), or, where it is of other people, the name of a
    baseline (`open_baseline`). `null` adds a row of the same with other seeds."""

    num_steps: list[int]
    pipeline: str | None = None
    source: str | None = None
    baseline: str | None = None
    null: bool = False


@dataclass
class CompareRecipe:
    """What a file of recipes/compare says.

    Attributes:
        size: of the stages that are trained or expected.
        seconds: of every clip.
        prompts: a list, or a text file with one a line.
        seeds: every prompt is made with every seed.
        embeddings: presets of the spaces in which clips are judged.
        reference: what clips are compared with: a split of the systems' own real music, or other music, a manifest or
            folder of sound files.
        systems: by name.
        corpus: real music with splits, as the option --corpus takes it; needed where all systems come finished, because
            then no run says what music there is.
        file: where it was read; recipes of stages are also looked for in the folders beside its own.
    """

    size: str
    seconds: float
    prompts: list[str] | str
    seeds: list[int]
    embeddings: list[str]
    reference: str
    systems: dict[str, Any]
    corpus: str | None = None
    file: Path | None = field(default=None, init=False)

    @property
    def presets(self) -> list[Path]:
        """The pipelines of the systems that a run has trained."""
        return [Path(side.pipeline) for side in self.systems.values() if side.pipeline]

    @property
    def summary(self) -> str:
        """What is made, in a line."""
        rows = sum(len(side.num_steps) + side.null for side in self.systems.values())
        clips = rows * len(self.prompts) * len(self.seeds)
        named = ", ".join(f"{name} ({', '.join(map(str, side.num_steps))})" for name, side in self.systems.items())
        return (
            f"{len(self.systems)} systems (steps): {named}; {rows} rows x {len(self.prompts)} prompts x "
            f"{len(self.seeds)} seeds = {clips} clips of {self.seconds:g} s, {clips * self.seconds / 60:.1f} minutes "
            f"of music, judged in {len(self.embeddings)} space(s)"
        )


def read_compare_recipe(file: Path | str) -> CompareRecipe:
    """A checked recipe with the paths of its presets and prompts found.

    Raises:
        FileNotFoundError: there is no such file, preset or list of prompts.
        ValueError: an unknown or missing key, a value of another kind, or no system of ours.
    """
    path = find_file(file)
    content = read_yaml(path)
    check_arguments(content, CompareRecipe, (), lambda keys: _named(path, keys))
    recipe = CompareRecipe(**content)
    recipe.file = path
    for name, system in recipe.systems.items():
        check_arguments(system, Side, ("systems", name), lambda keys: _named(path, keys))
        side = recipe.systems[name] = Side(**system)
        if sum(place is not None for place in (side.pipeline, side.source, side.baseline)) != 1:
            raise ValueError(f"{path}: systems.{name} needs a pipeline, a source or a baseline, one of the three")
        if side.pipeline:
            side.pipeline = str(find_file(side.pipeline, path))
    if recipe.corpus is not None:
        recipe.corpus = str(_music("corpus", recipe.corpus, path))
    if not recipe.presets and recipe.corpus is None:
        raise ValueError(
            f"{path}: no system has a pipeline, whose stages say what music there is; add one, or corpus: PATH"
        )
    if recipe.reference in (*SPLITS, *OTHER_NAMES):
        recipe.reference = read_split(recipe.reference)
    else:
        recipe.reference = str(_music("reference", recipe.reference, path))
    recipe.embeddings = [str(find_file(preset, path)) for preset in recipe.embeddings]
    if isinstance(recipe.prompts, str):
        recipe.prompts = read_prompts(find_file(recipe.prompts, path))
    return recipe


def _music(key: str, music: str, recipe: Path) -> Path:
    """Other music than the run's, beside the recipe, in the working folder, or as it ships."""
    places = [recipe.parent / music, Path(music), shipped(music)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        split = f"neither a split ({', '.join(SPLITS)}) nor there" if key == "reference" else "not there"
        raise ValueError(f"{recipe}: {key} is {music!r}, {split} as a path")
    return found


def _named(path: Path, keys: tuple[str, ...]) -> str:
    return f"{path}: {'.'.join(keys)}" if keys else str(path)


def plan_systems(recipe: CompareRecipe, setting: Setting) -> list[Recipe]:
    """All stages of all systems and embeddings, each after what it needs."""
    presets = [*recipe.presets, *map(Path, recipe.embeddings)]
    stages = sorted({stage for preset in presets for stage in stages_of(preset)})
    return plan_stages([find_recipe(stage, recipe.file) for stage in stages], setting)


def compare_recipe(
    recipe: CompareRecipe | Path | str, run: Run, out: Path, setting: Setting | None = None, train_missing: bool = False
) -> Results:
    """Compare the systems of a run as a recipe says; writes results.json, tables, report.html and audio/ into `out`.

    Args:
        recipe: a file, or what `read_compare_recipe` returned.
        run: holds the trained stages.
        setting: size, machine and corpus of the stages; None: the recipe's size, a CPU, the recipes' own music.
        train_missing: train stages that are not finished; without it they are an error.

    Raises:
        FileNotFoundError, ValueError: the recipe is not sound, or a stage is missing, of another size or other music.
    """
    if not isinstance(recipe, CompareRecipe):
        recipe = read_compare_recipe(recipe)
    setting = setting or Setting(recipe.size)
    stages = plan_systems(recipe, setting)
    if train_missing:
        run.train(stages)
    else:
        run.check(stages)
    run.enter()
    if setting.corpus is None and not recipe.presets:
        setting = replace(setting, corpus=recipe.corpus)
    pipelines = {name: _open(side, recipe, run, setting.placement) for name, side in recipe.systems.items()}
    return compare(
        {name: System(pipelines[name], side.num_steps, side.null) for name, side in recipe.systems.items()},
        recipe.prompts,
        recipe.seeds,
        recipe.seconds,
        _clips_of(*_reference(recipe, setting)),
        _embeddings(recipe, setting.placement),
        out,
        real=_real_music(recipe, setting),
        answers=_answers(recipe, setting),
        metadata={"size": setting.size, "run": run.name, "corpus": setting.corpus or "procedural"}
        | {"reference": recipe.reference},
    )


def _open(side: Side, recipe: CompareRecipe, run: Run, placement: Placement) -> Pipeline:
    pipeline: Pipeline
    if side.baseline:
        pipeline = open_baseline(side.baseline, recipe.prompts)
    else:
        pipeline = run.pipeline(Path(side.pipeline)) if side.pipeline else open_source(str(side.source))
    if hasattr(pipeline, "networks"):
        placement.put(pipeline.networks.values())
    return pipeline


def _reference(recipe: CompareRecipe, setting: Setting) -> tuple[MusicDataModule, list[Split]]:
    """Where the clips of the reference are: in one split, or in all of other music."""
    if recipe.reference in SPLITS:
        return _music_of_the_run(recipe, setting), [recipe.reference]
    data = _music_of_the_run(recipe, replace(setting, corpus=recipe.reference))
    return data, [split for split, clips in data.corpus.splits().items() if clips]


def _answers(recipe: CompareRecipe, setting: Setting) -> Iterator[RealClip]:
    """Of every prompt the clip of the reference whose caption is nearest, where words are shared and it can be read."""
    data, splits = _reference(recipe, setting)
    told = [
        (caption, split, item)
        for split in splits
        for item, clip in enumerate(data.split_clips(split))
        for caption in clip.captions
    ]
    for place, nearest in enumerate(nearest_captions(recipe.prompts, [caption for caption, _, _ in told])):
        if nearest is not None:
            caption, split, item = told[nearest]
            for example in data.examples(split, [item]):
                yield RealClip(place, caption, example.waveform[0, 0], data.sample_rate)


def _embeddings(recipe: CompareRecipe, placement: Placement) -> list[AudioEmbedding]:
    """Those of the recipe, where the systems are, always in fp32; one that needs a package which is not there is left
    out, with a word."""
    opened = []
    for preset in recipe.embeddings:
        try:
            opened.append(open_slot(Path(preset), AudioEmbedding))
        except OptionalDependencyError as missing:
            log.warning("%s is left out: %s", preset, missing)
    Placement(placement.device).put(opened)
    return opened


def _real_music(recipe: CompareRecipe, setting: Setting) -> Music:
    """Held-back clips that are no reference: what the same measures say of real music."""
    data = _music_of_the_run(recipe, setting)
    split = "test" if recipe.reference == "valid" else "valid"
    if data.corpus.splits()[split]:
        yield from _clips_of(data, [split])


def _music_of_the_run(recipe: CompareRecipe, setting: Setting) -> MusicDataModule:
    if not recipe.presets:
        return MusicDataModule(open_corpus(str(setting.corpus)), SAMPLE_RATE, recipe.seconds, batch_size=16)
    stage = find_recipe(stages_of(recipe.presets[0])[0], recipe.file)
    config = replace(setting, overrides=()).compose(stage).config
    return build_data({**config["data"], "seconds": recipe.seconds})


def _clips_of(data: MusicDataModule, splits: Sequence[str]) -> Music:
    for split in splits:
        pieces = [clip.piece for clip in data.split_clips(split)]
        for batch in data.batches(split, batch_size=16):
            yield batch.waveform, data.sample_rate, [pieces[item] for item in batch.item.tolist()]
