"""End a training early: export the stage's last.ckpt and mark the stage finished, so that later stages can use it.

To go on with it later, train with a larger --trainer.max_steps.
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
