"""`melody-cm ablate`: a folder of recipes that differ in one thing, each with several seeds, in one table."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.recipe import Recipe

    from melody_cm.benchmark.ablation import Ablation, Cell
    from melody_cm.interfaces import AudioEmbedding

# What only says how a trained denoiser is sampled: recipes that differ in nothing else share one training.
SAMPLING_KEYS = ("schedule", "sampler", "num_steps", "guidance_scale")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    from melody_cm.cli.train import add_setting

    parser = subparsers.add_parser(
        "ablate", help="train and measure variants of a recipe", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="recipes/ablations/NAME")
    add_setting(parser)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: 0,1,2)")
    parser.add_argument("--steps", help="comma-separated sampling steps (default: those of each recipe)")
    parser.add_argument("--clips", type=int, default=64, help="test clips that are denoised and sampled (default: 64)")
    parser.add_argument("--baseline", help="the recipe that the others are compared with (default: the first by name)")
    parser.add_argument("--run", help="the run that holds what they need and what is trained (default: ablate-NAME)")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, tables and report.html")
    parser.set_defaults(handler=ablate, takes_overrides=True)


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
    trained: "Recipe"
    sampled: "Recipe"


def ablate(arguments: argparse.Namespace) -> int:
    """Train what is missing, measure what is new, write the table."""
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.run import run_folder, train_all
    from rich.console import Console

    from melody_cm.benchmark.ablation import Ablation
    from melody_cm.benchmark.ablation_table import sheet
    from melody_cm.cli.train import require_size

    seeds, steps = numbers("--seeds", arguments.seeds), numbers("--steps", arguments.steps)
    if not seeds:
        raise ValueError(f"--seeds {arguments.seeds!r} names none; give at least one, like 0,1,2")
    if arguments.clips < 2:
        raise ValueError(f"--clips {arguments.clips} give no distance; take at least 2")
    setting = Setting(require_size(arguments.size), arguments.machine, arguments.corpus, arguments.overrides)
    variants = plan_variants(arguments.folder, seeds, setting)
    names = list(dict.fromkeys(variant.name for variant in variants))
    baseline = arguments.baseline or names[0]
    if baseline not in names:
        raise ValueError(f"--baseline {baseline} is none of {', '.join(names)}")
    check_steps(variants, steps)
    run = run_folder(arguments.runs, arguments.run or f"ablate-{arguments.folder.name}")
    if code := train_all(stages_in_order(variants, setting), run):
        return code
    results = Ablation(
        baseline,
        seeds,
        measure_all(variants, run, arguments.out, steps, arguments.clips),
        metadata(arguments, setting),
    )
    write(results, arguments.out)
    Console().print(sheet(results))
    print(f"Report: {arguments.out}/report.html (results.json and tables beside it)")
    return 0


def numbers(option: str, text: str | None) -> list[int]:
    """`1,2,3` as numbers, each once."""
    try:
        values = [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ValueError(f"{option} {text!r} must be whole numbers with commas between, like 0,1,2") from error
    if len(set(values)) < len(values) or min(values, default=0) < 0:
        raise ValueError(f"{option} {text!r} must be different numbers from 0 on")
    return values


def check_steps(variants: list[Variant], steps: list[int]) -> None:
    """Refuse numbers of steps that a schedule cannot do, before the trainings.

    Raises:
        ValueError: with the recipe, and what its schedule says.
    """
    from melody_cm.storage import build

    for name, config in {variant.name: variant.sampled.config for variant in variants}.items():
        schedule = build(config["model"]["init_args"]["schedule"])
        for num_steps in steps:
            try:
                schedule.angles(num_steps)
            except ValueError as error:
                raise ValueError(f"--steps {num_steps}, recipe {name}: {error}") from error


def plan_variants(folder: Path, seeds: list[int], setting: "Setting") -> list[Variant]:
    """Every recipe of the folder with every seed, seed by seed within a recipe."""
    paths = sorted(folder.glob("*.yaml"))
    if len(paths) < 2:
        raise ValueError(f"{folder} holds {len(paths)} recipe(s); an ablation compares at least two")
    trainings: "dict[str, Recipe]" = {}
    variants = []
    for path in paths:
        for seed in seeds:
            recipe = replace_seed(setting, path, seed)
            trained = trainings.setdefault(training_key(recipe, without=SAMPLING_KEYS), named_by_content(recipe))
            variants.append(Variant(path.stem, seed, trained, recipe))
    return variants


def replace_seed(setting: "Setting", path: Path, seed: int) -> "Recipe":
    """The recipe with another seed."""
    overrides = [*setting.overrides, f"--seed_everything={seed}"]
    return replace(setting, overrides=overrides).compose(path)


def named_by_content(recipe: "Recipe") -> "Recipe":
    """The same stage under a name that tells trainings apart, so that ablations in one run share them."""
    return replace(recipe, name=f"ablations/{training_key(recipe)[:12]}/seed{recipe.config['seed_everything']}")


def training_key(recipe: "Recipe", without: Sequence[str] = ()) -> str:
    """A hash of what a training depends on; the arguments of the model named in `without` are left out."""
    from melody_cm.cli.recipe import planned_steps

    from melody_cm.storage import hash_data

    model = {**recipe.config["model"]}
    model["init_args"] = {name: value for name, value in model["init_args"].items() if name not in without}
    return hash_data([model, recipe.config["data"], planned_steps(recipe), recipe.config["seed_everything"]])


def stages_in_order(variants: list[Variant], setting: "Setting") -> "list[Recipe]":
    """What the variants need, as it is without overrides, then what is trained for them, each once."""
    from melody_cm.cli.plan import plan_stages, recipes_root

    root = recipes_root(variants[0].trained.path)
    needs = dict.fromkeys(stage for variant in variants for stage in variant.trained.needs)
    return [
        *plan_stages(root, needs, replace(setting, overrides=[])),
        *{variant.trained.name: variant.trained for variant in variants}.values(),
    ]


def measure_all(variants: list[Variant], run: Path, out: Path, steps: list[int], num_clips: int) -> "list[Cell]":
    """All cells; those that were measured before on the same weights are read, not measured again."""
    from rich.console import Console
    from rich.progress import Progress

    from melody_cm.benchmark.ablation import Cell
    from melody_cm.storage import read_json, write_json

    cells = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=len(variants))
        for variant in variants:
            made_from = identity(variant, steps, num_clips)
            file = out / "cells" / f"{variant.name}_seed{variant.seed}.json"
            kept = read_json(file) if file.is_file() else {}
            if kept.get("made_from") != made_from:
                measured = [vars(cell) for cell in measure(variant, run, steps, num_clips)]
                kept = {"made_from": made_from, "cells": measured}
                write_json(file, kept)
            cells += [Cell(**cell) for cell in kept["cells"]]
            progress.advance(task)
    return cells


def identity(variant: Variant, steps: list[int], num_clips: int) -> dict[str, Any]:
    """Everything that decides what a variant's measures are."""
    from melody_cm.cli.finished import stage_weights

    slots = variant.sampled.config["model"]["init_args"]
    return {
        "weights": {stage: stage_weights(stage) for stage in [variant.trained.name, *variant.trained.stages_read]},
        "sampling": {key: slots[key] for key in SAMPLING_KEYS if key in slots},
        "data": variant.sampled.config["data"],
        "embedding": str(judging_embedding().identity),
        "steps": steps,
        "clips": num_clips,
    }


def judging_embedding() -> "AudioEmbedding":
    """The space of the distances: features that need no training and no download."""
    from melody_cm.evaluation.embeddings import LogMelEmbedding

    return LogMelEmbedding()


def measure(variant: Variant, run: Path, steps: list[int], num_clips: int) -> "Iterator[Cell]":
    """What one training gave: its denoising, then its samples at each number of steps."""
    from melody_cm.benchmark import measure_stage as measures
    from melody_cm.benchmark.ablation import Cell
    from melody_cm.diffusion import DDIMSampler
    from melody_cm.training import ConsistencyDistillation

    stage, data = load_stage(variant, run)
    clips = measures.HeldBackClips(data, num_clips, device=stage.device)
    distilled = isinstance(stage, ConsistencyDistillation)
    judged = measures.one_step_measures(stage, clips) if distilled else measures.denoising_measures(stage, clips)
    yield Cell(variant.name, variant.seed, None, judged)
    steps = steps or [stage.num_steps]
    deterministic = not distilled and isinstance(stage.sampler, DDIMSampler)
    errors = measures.sampling_errors(stage, clips, steps) if deterministic else [None] * len(steps)
    for num_steps, error in zip(steps, errors, strict=True):
        scores = measures.sample_scores(stage, clips, num_steps, judging_embedding())
        values = {key: score.value for key, score in scores.items() if score.value is not None}
        if error is not None:
            values["sampling_error"] = error
        judged_clips = max((score.n_generated for score in scores.values()), default=None)
        yield Cell(variant.name, variant.seed, num_steps, values, judged_clips)


def load_stage(variant: Variant, run: Path) -> tuple[Any, Any]:
    """The trained stage with the averaged networks that it exported, where it was trained, and its data module."""
    import torch
    from melody_cm.cli.training import StageCLI

    from melody_cm.storage import load_network, load_weights

    folder = run / variant.trained.name
    cli = StageCLI(variant.sampled, folder)
    for name, network in cli.model.averaged.items():
        export = folder / "export" / name
        load_weights(network, load_network(export).state_dict(), str(export))
    cli.model.eval()
    on_gpu = torch.cuda.is_available() and variant.sampled.config["trainer"].get("accelerator") != "cpu"
    return cli.model.to("cuda" if on_gpu else "cpu"), cli.datamodule


def metadata(arguments: argparse.Namespace, setting: "Setting") -> dict[str, Any]:
    """What was run, on what, where."""
    from dataclasses import asdict
    from datetime import datetime, timezone

    from melody_cm.benchmark import describe_machine
    from melody_cm.benchmark.machine import git_revision

    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["melody-cm", *sys.argv[1:]]),
        "git_revision": git_revision(),
        "folder": str(arguments.folder),
        "size": setting.size,
        "corpus": setting.corpus or "procedural",
        "overrides": setting.overrides,
        "clips": arguments.clips,
        "embedding": asdict(judging_embedding().identity),
        "machine": describe_machine(),
    }


def write(results: "Ablation", out: Path) -> None:
    """The table as JSON, CSV, Markdown and a page."""
    from melody_cm.benchmark.ablation_table import csv_table, sheet
    from melody_cm.benchmark.report import write_ablation_report
    from melody_cm.storage import write_json, write_text

    write_json(out / "results.json", results.as_dict())
    write_text(out / "table.csv", csv_table(results))
    write_text(out / "table.md", sheet(results).markdown())
    write_ablation_report(results, out)
