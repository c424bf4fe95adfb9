"""`melody-cm reproduce`: the papers' tables at the size that is at hand, with a verdict on each claim."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melody_cm.benchmark.reproduce import Measurements
    from melody_cm.benchmark.reproduce.experiments import Ablate, Compare, CountPasses, LongMusic
    from melody_cm.cli.plan import Setting
    from melody_cm.pipelines import PretrainedPipeline

RECIPES, PIPELINES = Path("recipes/compare"), Path("configs/pipeline")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the verb."""
    from melody_cm.cli.train import add_setting

    parser = subparsers.add_parser(
        "reproduce", help="run the papers' tables and judge their claims", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "name",
        help="melody-speed, melody-schedule, melody-network, melody-passes, musiccm-quality, musiccm-discriminator, "
        "musiccm-long, or all",
    )
    add_setting(parser)
    parser.add_argument("--seeds", default="0,1,2", help="of trainings that are compared (default: 0,1,2)")
    parser.add_argument("--clips", type=int, default=64, help="test clips that ablations are judged by (default: 64)")
    parser.add_argument("--run", help="the run that holds all trainings (default: reproduce-SIZE)")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.md, NAME.json and what they stand on")
    parser.set_defaults(handler=reproduce)


def reproduce(arguments: argparse.Namespace) -> int:
    """Train what is missing, measure, judge, write; one experiment after the other."""
    from melody_cm.cli.ablate import numbers
    from melody_cm.cli.plan import Setting
    from melody_cm.cli.run import run_folder
    from melody_cm.cli.train import require_size

    names = chosen(arguments.name)
    setting = Setting(require_size(arguments.size), arguments.machine, arguments.corpus)
    read_prompts(setting.size)  # Refuses an unknown size before any work.
    seeds = numbers("--seeds", arguments.seeds)
    if len(seeds) < 2 or arguments.clips < 2:
        raise ValueError(f"--seeds {arguments.seeds} --clips {arguments.clips} have no spread; give at least 2 of each")
    run = run_folder(arguments.runs, arguments.run or f"reproduce-{setting.size}")
    work = Work(setting, run, arguments.out, seeds, arguments.clips)
    for name in names:
        if code := work.do(name):
            return code
    return 0


def chosen(name: str) -> list[str]:
    """The experiments that a name means.

    Raises:
        ValueError: none.
    """
    from melody_cm.benchmark.reproduce import EXPERIMENTS

    if name not in (*EXPERIMENTS, "all"):
        raise ValueError(f"there is no table {name!r}; tables: {', '.join(EXPERIMENTS)}, or all")
    return list(EXPERIMENTS) if name == "all" else [name]


def read_prompts(size: str) -> dict[str, Any]:
    """The comparison of that size, whose prompts, seeds, length and measures are taken over."""
    from melody_cm.cli.compare import read_compare_recipe

    return read_compare_recipe(RECIPES / f"{size}.yaml")


class Interrupted(Exception):
    """A signal stopped a training, whose exit code this carries."""


class Work:
    """Runs experiments, all in one run, so that what they share is trained once.

    Args:
        setting: size, machine and corpus; run: where stages are trained; out: where results go.
        seeds, clips: of ablations.
    """

    def __init__(self, setting: "Setting", run: Path, out: Path, seeds: list[int], clips: int) -> None:
        self.setting = setting
        self.run = run
        self.out = out
        self.seeds = seeds
        self.clips = clips

    def do(self, name: str) -> int:
        """Run one experiment; writes NAME.md and NAME.json, prints the verdicts."""
        from melody_cm.benchmark.reproduce import EXPERIMENTS, as_dict, markdown
        from melody_cm.benchmark.reproduce.experiments import Ablate, Compare, CountPasses
        from melody_cm.storage import write_json, write_text

        experiment = EXPERIMENTS[name]
        ways = {Compare: self.compared, Ablate: self.ablated, CountPasses: self.counted}
        try:
            measured = ways.get(type(experiment.run), self.long_music)(experiment.run, self.out / name)
        except Interrupted as stopped:
            return int(stopped.args[0])
        facts = self.metadata(name)
        write_json(self.out / f"{name}.json", as_dict(experiment, measured, facts))
        write_text(self.out / f"{name}.md", markdown(experiment, measured, facts))
        for claim in experiment.claims:
            print(f"{name}: {claim.text}: {claim.judge(measured).verdict}")
        print(f"Results: {self.out}/{name}.md and {name}.json")
        return 0

    def metadata(self, name: str) -> dict[str, Any]:
        """What was run, on what, where."""
        from datetime import datetime, timezone

        from melody_cm.benchmark import describe_machine

        return {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": f"melody-cm reproduce {name} --size {self.setting.size}",
            "size": self.setting.size,
            "data": self.setting.corpus or "procedural music",
            "run": self.run.name,
            "seeds": self.seeds,
            "machine": describe_machine(),
        }

    def compared(self, what: "Compare", out: Path) -> "Measurements":
        """Systems side by side."""
        from melody_cm.benchmark.reproduce.collect import from_comparison
        from melody_cm.cli.compare import compare_run, plan_systems

        recipe = self._recipe({name: list(steps) for name, steps in what.systems.items()})
        self._train(plan_systems(recipe, self.setting))
        return from_comparison(compare_run(recipe, self.setting, self.run, out))

    def ablated(self, what: "Ablate", out: Path) -> "Measurements":
        """Variants of a recipe with several seeds."""
        from melody_cm.benchmark.ablation import Ablation
        from melody_cm.benchmark.reproduce.collect import from_ablation
        from melody_cm.cli.ablate import measure_all, plan_variants, stages_in_order

        planned = plan_variants(Path(what.folder), self.seeds, self.setting)
        variants = [variant for name in what.recipes for variant in planned if variant.name == name]
        self._train(stages_in_order(variants, self.setting))
        cells = measure_all(variants, self.run, out, list(what.steps), self.clips)
        return from_ablation(Ablation(what.recipes[0], self.seeds, cells))

    def counted(self, what: "CountPasses", out: Path) -> "Measurements":
        """Formulas, and one clip of each system."""
        from melody_cm.benchmark.reproduce.collect import from_passes

        pipelines = self._pipelines(what.systems)
        return from_passes(pipelines, what.systems, read_prompts(self.setting.size)["prompts"][0])

    def long_music(self, what: "LongMusic", out: Path) -> "Measurements":
        """Music of several windows, made in two ways."""
        from melody_cm.benchmark.reproduce.collect import from_long_music
        from melody_cm.benchmark.reproduce.long_music import coherence

        recipe = read_prompts(self.setting.size)
        pipeline = self._pipelines([what.system])[what.system]
        seconds = what.windows * float(pipeline.max_seconds)
        values = {
            windows: coherence(pipeline, recipe["prompts"], recipe["seeds"], seconds, what.num_steps, windows)
            for windows in ("independent", "shared")
        }
        return from_long_music(values, baseline="independent")

    def _recipe(self, systems: dict[str, list[int]]) -> dict[str, Any]:
        presets = {name: (PIPELINES / f"{name}.yaml").absolute() for name in systems}
        chosen = {name: {"pipeline": presets[name], "num_steps": steps} for name, steps in systems.items()}
        return {**read_prompts(self.setting.size), "systems": chosen}

    def _pipelines(self, systems: Iterable[str]) -> "dict[str, PretrainedPipeline]":
        from melody_cm.cli.compare import plan_systems
        from melody_cm.cli.export import pipeline_of_run

        recipe = self._recipe({name: [1] for name in systems})
        self._train(plan_systems({**recipe, "embeddings": []}, self.setting))
        return {name: pipeline_of_run(system["pipeline"], self.run) for name, system in recipe["systems"].items()}

    def _train(self, stages: list) -> None:
        from melody_cm.cli.run import train_all

        if code := train_all(stages, self.run):
            raise Interrupted(code)
