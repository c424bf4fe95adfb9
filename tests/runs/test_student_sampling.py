"""What a student needs to be sampled rightly travels with its weights: schedule, grid, guidance and prediction type."""

import pytest
import torch

from melody_cm.configuration import load_config, shipped
from melody_cm.denoisers import UNet2D
from melody_cm.diffusion import ConsistencySampler, LinearAngles, ScaledLinearBetaAngles, TimestepDenoiser
from melody_cm.runs import Setting
from melody_cm.runs.systems import sampling_settings
from melody_cm.storage import build, find_class, load_network, save_network
from melody_cm.storage.description import parameters

STUDENTS = {
    "musiccm": (
        "musiccm/4_consistency_distillation",
        ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=True),
        3.0,
    ),
    "melody_cm": ("melody/7_consistency_distillation", LinearAngles(), 2.5),
}


@pytest.mark.parametrize(("size", "grid_steps"), [("paper", 50), ("cpu", 25), ("tiny", 10)])
@pytest.mark.parametrize("system", STUDENTS)
def test_a_student_is_sampled_on_the_grid_that_it_learned(system, size, grid_steps):
    stage, schedule, scale = STUDENTS[system]
    preset = load_config(shipped(f"configs/pipeline/{system}.yaml"))
    known = parameters(find_class(preset["class_path"]))
    settings = sampling_settings(Setting(size).compose(stage).config, known)
    assert settings["embedded_guidance_scale"] == (2.0 if (system, size) == ("musiccm", "tiny") else scale)
    assert "guidance_scale" not in settings
    assert isinstance(build(settings["sampler"]), ConsistencySampler)
    grid, visited = schedule.angles(grid_steps).tolist(), build(settings["schedule"])
    for num_steps in (1, 2, 4, 6, 8):
        expected = [grid[j * grid_steps // num_steps] for j in range(num_steps)]
        assert visited.angles(num_steps).tolist() == [*expected, 0.0]
    with pytest.raises(ValueError, match=f"allows at most {grid_steps}"):
        visited.angles(grid_steps + 1)


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_the_prediction_type_and_its_schedule_are_saved_with_the_network(tmp_path, prediction):
    body = UNet2D(4, 16, channels=[16, 32], layers_per_block=1, attention_levels=[1], head_width=16)
    denoiser = TimestepDenoiser(body, ScaledLinearBetaAngles(beta_end=0.02), prediction)
    save_network(denoiser, tmp_path / "denoiser")
    loaded = load_network(tmp_path / "denoiser")
    assert (loaded.prediction, loaded.last_angle) == (denoiser.prediction, denoiser.last_angle)
    assert torch.equal(
        loaded.nearest_timestep(torch.linspace(0, 1.5, 50)), denoiser.nearest_timestep(torch.linspace(0, 1.5, 50))
    )
