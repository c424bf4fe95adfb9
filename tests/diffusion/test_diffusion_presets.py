from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from melody_cm import diffusion
from melody_cm.interfaces import AngleSchedule, Objective, Sampler

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    ("slot", "interface", "name", "class_name"),
    [
        ("schedule", AngleSchedule, "linear", "LinearAngles"),
        ("schedule", AngleSchedule, "uniform", "UniformAngles"),
        ("schedule", AngleSchedule, "scaled_linear_beta", "ScaledLinearBetaAngles"),
        ("sampler", Sampler, "ddim", "DDIMSampler"),
        ("sampler", Sampler, "consistency", "ConsistencySampler"),
        ("objective", Objective, "multi_chunk", "DenoisingObjective"),
        ("objective", Objective, "denoising", "DenoisingObjective"),
        ("objective", Objective, "consistency", "ConsistencyObjective"),
    ],
)
def test_preset_fills_its_slot(slot, interface, name, class_name):
    parser = ArgumentParser()
    parser.add_subclass_arguments(interface, slot)
    filled = parser.instantiate_classes(parser.parse_args([f"--{slot}", str(CONFIGS / slot / f"{name}.yaml")]))
    assert type(filled[slot]) is getattr(diffusion, class_name)


def test_objectives_hold_their_schedules_as_arguments():
    parser = ArgumentParser()
    parser.add_subclass_arguments(Objective, "objective")
    preset = str(CONFIGS / "objective" / "consistency.yaml")
    objective = parser.instantiate_classes(parser.parse_args([f"--objective={preset}"])).objective
    assert objective.init_arguments["grid_steps"] == 50
    assert objective.init_arguments["schedule"].init_arguments["zero_terminal_snr"] is True
