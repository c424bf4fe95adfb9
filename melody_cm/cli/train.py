"""Train a recipe, or what the system of a folder of recipes needs, in one process.

Anything in a recipe can be overridden: --trainer.max_steps 100, --model.denoiser configs/denoiser/unet1d.yaml.
"""

import argparse
import sys

import melody_cm
from melody_cm.cli.options import add_setting, chosen_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("recipe", help="recipes/SYSTEM, recipes/SYSTEM/STAGE.yaml, or a recipe of your own")
    add_setting(parser)
    parser.add_argument("--run", required=True, help="name of the run; results go to RUNS/NAME/SYSTEM/STAGE")
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="EXPORT",
        help="begin with the weights of an exported system, whose networks also stand for stages that the run lacks",
    )
    parser.add_argument("--retrain", action="store_true", help="train finished stages again if they would differ now")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--print-config", action="store_true", help="print what would run and do nothing")
    parser.set_defaults(takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Plan, then train what is not finished, or print the plan."""
    setting = melody_cm.Setting(arguments.size, arguments.machine, arguments.corpus, arguments.overrides)
    recipes = melody_cm.plan(arguments.recipe, setting)
    target = chosen_run(arguments, arguments.run)
    if arguments.print_config:
        for recipe in recipes:
            sys.stdout.write(recipe.as_yaml())
    elif arguments.dry_run:
        melody_cm.Plan(recipes, setting, target.path).show()
    else:
        target.train(recipes, arguments.retrain, arguments.start_from)
    return 0
