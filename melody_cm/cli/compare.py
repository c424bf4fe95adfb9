"""Generate the same prompts with every system, judge and time all in the same way, and write report.html."""

import argparse
from pathlib import Path

from rich.console import Console

import melody_cm
from melody_cm.cli.options import add_placement, add_quantize, add_setting, chosen_placement, chosen_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("recipe", type=Path, help="one of recipes/compare/*.yaml, or your own")
    add_setting(parser, size_is_known=True)
    add_placement(parser, "generation")
    add_quantize(parser)
    parser.add_argument("--run", help="the run whose stages are compared (default: compare-RECIPE)")
    parser.add_argument("--train-missing", action="store_true", help="train the stages that are not finished")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an older results.json: print what changed")
    parser.add_argument("--dry-run", action="store_true", help="print what would be trained and generated, and stop")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, tables, report.html, audio/")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the table and what changed."""
    recipe = melody_cm.read_compare_recipe(arguments.recipe)
    placement = chosen_placement(arguments)
    size = arguments.size or recipe.size
    setting = melody_cm.Setting(size, arguments.machine, arguments.corpus, placement=placement)
    target = chosen_run(arguments, f"compare-{arguments.recipe.stem}")
    plan = melody_cm.Plan(melody_cm.plan_systems(recipe, setting), setting, target.path)
    if arguments.dry_run and plan.recipes:
        plan.show()
    first = f"{plan.sentence}; then " if arguments.train_missing and plan.recipes else ""
    print(f"plan: {first}{recipe.summary}", flush=True)
    if arguments.dry_run:
        return 0
    older = melody_cm.Results.read(arguments.against, "compare") if arguments.against else None
    if older:  # Before any work.
        melody_cm.refuse_unlike_placements(older.metadata, {"placement": placement.facts()})
    results = melody_cm.compare(recipe, target, arguments.out, setting, arguments.train_missing)
    Console().print(melody_cm.rich_table(results))
    if older:
        Console().print(melody_cm.change_sheet(older, results))
    print(f"Report: {arguments.out}/report.html (tables beside it, clips in audio/).", *melody_cm.cautions(results))
    return 0
