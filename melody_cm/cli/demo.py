"""Show systems on a page in the browser: side by side, on given music, and in a blind listening test."""

import argparse
from pathlib import Path

import melody_cm
from melody_cm.cli.options import add_placement, chosen_placement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "systems", nargs="+", metavar="SYSTEM", help="a folder of `melody-cm export`, RUNS/RUN/SYSTEM, or demo:NAME"
    )
    add_placement(parser, "the networks")
    parser.add_argument("--votes", type=Path, default=Path("votes"), help="folder of the votes (default: votes)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 shows it to others (default: this machine alone)")
    parser.add_argument("--port", type=int, help="default: the first that is free from 7860 on")


def run(arguments: argparse.Namespace) -> int:
    """Load the systems and wait for visitors."""
    placement = chosen_placement(arguments)
    melody_cm.open_page(arguments.systems, placement, arguments.votes, arguments.host, arguments.port)
    return 0
