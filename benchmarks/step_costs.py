"""Processor seconds of a training step of each stage, on one thread: the `cost` of recipes, which `--dry-run` shows.

    python benchmarks/step_costs.py --size cpu [--steps 8] [STAGE...]

Processor time hardly depends on what else the machine does. Each stage trains a few steps, the discriminators from the
first step on; where they join later, the mean over the whole training is printed. The first two steps are left out.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from lightning.pytorch import Callback
from two_steps import NEW_CLASSES, STAGES

from melody_cm.runs import Run, Setting, plan_stages

SETTLING_STEPS = 2


class StepClock(Callback):
    """Notes the processor time at which each step of a training ended."""

    ends: list[float] = []

    def on_train_start(self, *_: Any) -> None:
        StepClock.ends = [time.process_time()]

    def on_train_batch_end(self, *_: Any) -> None:
        StepClock.ends.append(time.process_time())


def measure(name: str, run: Run, setting: Setting, steps: int, opposed: bool) -> float:
    """Mean processor seconds of a step of one stage, whose needs are finished in the run."""
    recipe = setting.compose(name)
    trainer, slots = recipe.config["trainer"], recipe.config["model"]["init_args"]
    key = "max_steps" if "max_steps" in trainer else "limit_train_batches"
    trainer |= {key: steps, "val_check_interval": steps, "limit_val_batches": 1, "log_every_n_steps": 1000}
    trainer["callbacks"] = [{"class_path": "step_costs.StepClock", "init_args": {}}]
    if isinstance(adversary := slots.get("adversary"), dict):
        adversary["init_args"] |= {"start": 0.0, "warmup": 0.0, "ramp": 0.0} if opposed else {"start": 0.9}
    run.train([recipe], retrain=True)
    gaps = [later - sooner for sooner, later in zip(StepClock.ends, StepClock.ends[1:], strict=False)]
    settled = gaps[SETTLING_STEPS:-1]
    return sum(settled) / len(settled)


def main() -> None:
    """Print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="of recipes/; all by default")
    parser.add_argument("--size", default="cpu")
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "costs")
        for recipe in plan_stages(arguments.stages or [*STAGES, *NEW_CLASSES], setting):
            opposed = measure(recipe.name, run, setting, arguments.steps, opposed=True)
            share, seconds = 1.0, opposed
            adversary = recipe.config["model"]["init_args"].get("adversary")
            if isinstance(adversary, dict) and (start := adversary["init_args"].get("start", 0.1)):
                alone = measure(recipe.name, run, setting, arguments.steps, opposed=False)
                share, seconds = 1 - start, start * alone + (1 - start) * opposed
            print(f"COST {recipe.name:40} {seconds:7.2f} s a step, opposed in {share:.0%} of them", flush=True)


if __name__ == "__main__":
    sys.modules["step_costs"] = sys.modules["__main__"]
    main()
