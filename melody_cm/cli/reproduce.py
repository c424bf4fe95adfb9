"""Rerun tables of the papers at the given size, with a verdict on each of their claims."""

import argparse
from pathlib import Path

import melody_cm
from melody_cm.cli.options import add_placement, add_setting, chosen_placement, chosen_run, whole_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "name",
        help="melody-speed, melody-schedule, melody-network, melody-passes, musiccm-quality, musiccm-discriminator, "
        "musiccm-long, or all",
    )
    add_setting(parser)
    add_placement(parser, "the measurements")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated seeds of the ablations (default: 0,1,2)")
    parser.add_argument("--clips", type=int, default=64, help="test clips that ablations are measured on (default: 64)")
    parser.add_argument("--run", help="the run that holds all trainings (default: reproduce-SIZE)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for NAME.md, NAME.json and the data behind them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Reproduce one table after the other, and print the verdicts."""
    placement = chosen_placement(arguments)
    setting = melody_cm.Setting(arguments.size, arguments.machine, arguments.corpus, placement=placement)
    target = chosen_run(arguments, f"reproduce-{setting.size}")
    seeds = whole_numbers("--seeds", arguments.seeds)
    for name in melody_cm.EXPERIMENTS if arguments.name == "all" else [arguments.name]:
        results = melody_cm.reproduce(name, setting, target, arguments.out, seeds, arguments.clips)
        for claim in results.metadata["claims"]:
            print(f"{name}: {claim['claim']}: {claim['verdict']}")
        print(f"Results: {arguments.out}/{name}.md and {name}.json")
    return 0
