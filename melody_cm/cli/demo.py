"""Try systems in the browser: prompts side by side, continuation and inpainting, and a blind listening test."""

import argparse
from pathlib import Path

import melody_cm
from melody_cm.cli.options import add_placement, chosen_placement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="SYSTEM",
        help="a folder of `melody-cm export`, RUNS/RUN/SYSTEM, demo:NAME or owner/name",
    )
    add_placement(parser, "the networks")
    parser.add_argument(
        "--votes", type=Path, default=Path("votes"), help="folder that votes are saved in (default: votes)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets other machines connect (default: this machine only)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")


def run(arguments: argparse.Namespace) -> int:
    """Load the systems and wait for visitors."""
    placement = chosen_placement(arguments)
    melody_cm.open_page(arguments.systems, placement, arguments.votes, arguments.host, arguments.port)
    return 0
