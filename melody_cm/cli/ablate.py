"""Train a folder of recipes that differ in one thing, each with several seeds, and measure them in one table."""

import argparse
from pathlib import Path

from rich.console import Console

import melody_cm
from melody_cm.cli.options import add_placement, add_setting, chosen_placement, chosen_run, require_size, whole_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("folder", type=Path, help="recipes/ablations/NAME")
    add_setting(parser)
    add_placement(parser, "what is measured")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: 0,1,2)")
    parser.add_argument("--steps", help="comma-separated sampling steps (default: those of each recipe)")
    parser.add_argument("--clips", type=int, default=64, help="test clips that are denoised and sampled (default: 64)")
    parser.add_argument("--baseline", help="the recipe that the others are compared with (default: the first by name)")
    parser.add_argument("--run", help="the run that holds what they need and what is trained (default: ablate-NAME)")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, tables and report.html")
    parser.set_defaults(takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, measure what is new, print the table."""
    size = require_size(arguments.size)
    results = melody_cm.ablate(
        arguments.folder,
        melody_cm.Setting(size, arguments.machine, arguments.corpus, arguments.overrides, chosen_placement(arguments)),
        chosen_run(arguments, f"ablate-{arguments.folder.name}"),
        arguments.out,
        whole_numbers("--seeds", arguments.seeds),
        whole_numbers("--steps", arguments.steps),
        arguments.clips,
        arguments.baseline,
    )
    Console().print(melody_cm.rich_table(results))
    print(f"Report: {arguments.out}/report.html (results.json and tables beside it)")
    return 0
