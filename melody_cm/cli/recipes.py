"""List the recipes of the package: purpose, stages that must be trained before, and time on one core."""

import argparse

import melody_cm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--size", default="tiny", help="size that stages and times are for: tiny, cpu, small or paper (default: tiny)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one paragraph a recipe."""
    for recipe in melody_cm.list_recipes(arguments.size):
        print(f"{recipe.name}: {recipe.purpose}")
        print(f"    needs {', '.join(recipe.needs) or 'nothing'}; {recipe.cost} at size {arguments.size}")
    print("Copy one to edit it: melody-cm copy RECIPE FILE")
    return 0
