"""Train one stage (a recipe file), or all stages that a system needs (a folder of recipes), one after another.

The same command resumes a training that was stopped, and skips finished stages. Any value of a recipe can be
overridden: --trainer.max_steps 100, --model.denoiser configs/denoiser/unet1d.yaml.
"""

import argparse
import sys

import melody_cm
from melody_cm.cli.options import add_setting, chosen_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("recipe", help="recipes/SYSTEM, recipes/SYSTEM/STAGE.yaml, or your own recipe")
    add_setting(parser)
    parser.add_argument("--run", required=True, help="name of the run; results go to RUNS/RUN/SYSTEM/STAGE")
    parser.add_argument(
        "--from",
        dest="start_from",
        metavar="EXPORT",
        help="fine-tune: start with the weights of a system (a folder of `melody-cm export`, demo:NAME or owner/name), "
        "which also stand in for stages that the run lacks",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="start again with stages that are unfinished or were made from other settings or data; they are replaced "
        "when the new ones are finished",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print stages, parameters, memory, time and disk, and stop"
    )
    parser.add_argument("--print-config", action="store_true", help="print the complete configuration, and stop")
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
