"""End a stage where its last.ckpt stands: export it and call it finished, so that later stages can be trained.

A finished stage has its export written again. To go on later, train with more steps: --trainer.max_steps.
"""

import argparse
from pathlib import Path

import melody_cm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("stage", type=Path, help="RUNS/RUN/SYSTEM/STAGE, e.g. runs/demo/melody/5_audio_vae_gan")


def run(arguments: argparse.Namespace) -> int:
    """Finish the stage."""
    melody_cm.finish(arguments.stage)
    return 0
