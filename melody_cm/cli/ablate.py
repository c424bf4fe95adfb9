"""Train a folder of recipes that differ in one thing, each with several seeds, and compare them in one table."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

import melody_cm
from melody_cm.cli.options import add_placement, add_setting, chosen_placement, chosen_run, whole_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("folder", type=Path, help="one of recipes/ablations/*, or your own folder of recipes")
    add_setting(parser)
    add_placement(parser, "the measurements")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: 0,1,2)")
    parser.add_argument("--steps", help="comma-separated sampling steps (default: those of each recipe)")
    parser.add_argument("--clips", type=int, default=64, help="test clips that each is measured on (default: 64)")
    parser.add_argument("--baseline", help="the recipe that the others are compared with (default: the first by name)")
    parser.add_argument("--run", help="the run that holds all trainings (default: ablate-FOLDER)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be trained and measured, and stop")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, tables and report.html")
    parser.set_defaults(takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, measure what is new, print the table."""
    placement = chosen_placement(arguments)
    setting = melody_cm.Setting(arguments.size, arguments.machine, arguments.corpus, arguments.overrides, placement)
    target = chosen_run(arguments, f"ablate-{arguments.folder.name}")
    seeds, steps = whole_numbers("--seeds", arguments.seeds), whole_numbers("--steps", arguments.steps)
    asked = (seeds, steps, arguments.clips, arguments.baseline)
    if arguments.dry_run:
        _show(melody_cm.plan_ablation(arguments.folder, setting, *asked), setting, target, arguments.clips)
        return 0
    results = melody_cm.ablate(arguments.folder, setting, target, arguments.out, *asked)
    Console().print(melody_cm.rich_table(results))
    print(f"Report: {arguments.out}/report.html (results.json and tables beside it)")
    return 0


def _show(variants: list[Any], setting: Any, target: Any, clips: int) -> None:
    melody_cm.Plan(melody_cm.stages_in_order(variants, setting), setting, target.path).show()
    for trained in dict.fromkeys(variant.trained.name for variant in variants):
        names = [f"{one.name}, seed {one.seed}" for one in variants if one.trained.name == trained]
        print(f"{trained}: {'; '.join(names)}")
    recipes, seeds = ({getattr(one, what) for one in variants} for what in ("name", "seed"))
    print(f"{len(recipes)} recipe(s) x {len(seeds)} seed(s), each measured on {clips} clips")
