"""Turn the votes of listening tests into preferences with intervals and a Bradley-Terry ranking."""

import argparse
from pathlib import Path

from rich.console import Console

import melody_cm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="the files that listeners saved in report.html"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print both tables."""
    votes = melody_cm.read_votes(arguments.files)
    Console().print(*melody_cm.vote_sheets(votes), sep="\n")
    return 0
