"""Clips of all demo systems for docs/demo.md: the first prompts of recipes/compare/demo.yaml, seed 0, none selected.

python recipes/demo/clips.py --out docs/clips
"""

import argparse
from pathlib import Path

import melody_cm
from melody_cm.comparison.compare_recipe import read_compare_recipe
from melody_cm.configuration import shipped

PROMPTS = 5


def main() -> None:
    """One clip a prompt and system, as Vorbis, by the system's own number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    prompts = read_compare_recipe(shipped("recipes/compare/demo.yaml")).prompts[:PROMPTS]
    recipe = read_compare_recipe(shipped("recipes/compare/demo_captions.yaml"))
    for name, side in recipe.systems.items():
        system = melody_cm.load(side.source)
        made = system(prompts, seconds=recipe.seconds, seed=0, num_steps=max(side.num_steps))
        for index in range(len(made)):
            made[index].save(arguments.out / f"{name}_{index + 1}.ogg")


if __name__ == "__main__":
    main()
