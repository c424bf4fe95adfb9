import pytest

from melody_cm import diffusion
from melody_cm.configuration import open_slot, shipped
from melody_cm.interfaces import AngleSchedule, Objective, Sampler


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
    built = open_slot(shipped(f"configs/{slot}/{name}.yaml"), interface)
    assert type(built) is getattr(diffusion, class_name)


def test_objectives_hold_their_schedules_as_arguments():
    objective = open_slot(shipped("configs/objective/consistency.yaml"), Objective)
    assert objective.init_arguments["grid_steps"] == 50
    assert objective.init_arguments["schedule"].init_arguments["zero_terminal_snr"] is True


def test_a_preset_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="LinearAngles is no Objective"):
        open_slot(shipped("configs/schedule/linear.yaml"), Objective)
