"""Show versions, devices, which optional packages work, and where caches are."""

import argparse

from rich.console import Console
from rich.table import Table

import melody_cm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print what a bug report should hold."""
    table = Table(show_header=False, box=None)
    for section in melody_cm.doctor():
        for name, value in section.items():
            table.add_row(name, value)
        table.add_row("", "")
    Console(soft_wrap=True).print(table)
    return 0
