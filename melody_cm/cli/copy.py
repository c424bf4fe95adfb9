"""Copy a recipe of the package to edit it; the copy works in any folder and at every size."""

import argparse
from pathlib import Path

import melody_cm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("recipe", help="its name, as `melody-cm recipes` lists it, e.g. melody/6_dual_path_diffusion")
    parser.add_argument("file", type=Path, help="a new file, e.g. recipes/mine/6_dual_path_diffusion.yaml")


def run(arguments: argparse.Namespace) -> int:
    """Write the copy."""
    file = melody_cm.copy_recipe(arguments.recipe, arguments.file)
    print(f"{file}: edit it, then: melody-cm train {file} --size tiny --run NAME")
    return 0
