import math

import numpy as np
import pytest
import torch

from melody_cm.diffusion import GridAngles, LinearAngles, ScaledLinearBetaAngles, UniformAngles


def diffusers_scheduler(spacing="trailing", prediction="v_prediction", zero_snr=False, final_zero=True):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=final_zero,
        steps_offset=1,
        prediction_type=prediction,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero_snr,
    )


SCHEDULES = [
    LinearAngles(),
    UniformAngles(),
    ScaledLinearBetaAngles(),
    ScaledLinearBetaAngles(spacing="leading"),
    ScaledLinearBetaAngles(spacing="lcm"),
    ScaledLinearBetaAngles(zero_terminal_snr=True),
    GridAngles(LinearAngles()),
    GridAngles(ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=True)),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 7, 20, 50])
def test_angles_keep_the_contract(schedule, num_steps):
    angles = schedule.angles(num_steps)
    assert angles.dtype == torch.float64
    assert angles.shape == (num_steps + 1,)
    assert (angles.diff() < 0).all()
    assert 0 < angles[0] <= math.pi / 2
    assert angles[-1] == 0


@pytest.mark.parametrize("schedule", [LinearAngles(), UniformAngles()], ids=["linear", "uniform"])
@pytest.mark.parametrize("num_steps", [1, 7, 10, 1000])
def test_steps_sum_to_a_right_angle(schedule, num_steps):
    angles = schedule.angles(num_steps)
    assert angles[0].item() == math.pi / 2
    assert -angles.diff().sum().item() == pytest.approx(math.pi / 2, abs=1e-14)


@pytest.mark.parametrize(
    ("num_steps", "largest", "smallest", "uniform"),
    [(5, 0.45379, 0.17453, 0.31416), (10, 0.24276, 0.07140, 0.15708), (20, 0.12591, 0.03117, 0.07854)],
)
def test_steps_of_the_paper(num_steps, largest, smallest, uniform):
    steps = -LinearAngles().angles(num_steps).diff()
    assert steps[0].item() == pytest.approx(largest, abs=5e-6)
    assert steps[-1].item() == pytest.approx(smallest, abs=5e-6)
    assert -UniformAngles().angles(num_steps).diff().numpy() == pytest.approx(np.full(num_steps, uniform), abs=5e-6)


def test_linear_angles_equal_the_accumulated_steps():
    steps = 13
    omega = [math.pi / (6 * steps) + 2 * math.pi * t / (3 * steps * (steps + 1)) for t in range(1, steps + 1)]
    accumulated = [sum(omega[:t]) for t in range(steps, -1, -1)]
    assert LinearAngles().angles(steps).numpy() == pytest.approx(np.array(accumulated), abs=1e-14)


@pytest.mark.parametrize("zero_snr", [False, True])
def test_table_equals_diffusers_alphas(zero_snr):
    table = ScaledLinearBetaAngles(zero_terminal_snr=zero_snr).table
    alphas = diffusers_scheduler(zero_snr=zero_snr).alphas_cumprod.double()
    # Compared as sqrt(alpha_bar): diffusers accumulates in fp32.
    torch.testing.assert_close(table.cos(), alphas.sqrt(), rtol=1e-4, atol=1e-6 if not zero_snr else 3e-5)
    assert table.dtype == torch.float64
    assert (table.diff() > 0).all()


def test_known_points_of_the_table():
    table = ScaledLinearBetaAngles().table
    assert table[0].item() == pytest.approx(math.asin(math.sqrt(0.0015)), abs=1e-12)
    assert table[-1].item() == pytest.approx(1.5589, abs=5e-5)
    assert table.sin()[[999, 759, 499, 259]].numpy() == pytest.approx([1.000, 0.996, 0.940, 0.714], abs=5e-4)
    assert ScaledLinearBetaAngles(zero_terminal_snr=True).table[-1].item() == math.pi / 2


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 6, 7, 10, 15, 50, 200])
def test_timesteps_equal_diffusers(spacing, num_steps):
    scheduler = diffusers_scheduler(spacing)
    scheduler.set_timesteps(num_steps)
    assert ScaledLinearBetaAngles(spacing=spacing).timesteps(num_steps).tolist() == scheduler.timesteps.tolist()


def test_lcm_timesteps_are_the_ends_of_equal_pieces():
    assert ScaledLinearBetaAngles(spacing="lcm").timesteps(50).tolist() == list(range(999, 0, -20))
    assert ScaledLinearBetaAngles(spacing="lcm").timesteps(3).tolist() == [998, 665, 332]


def test_without_final_zero_leading_angles_end_where_the_table_begins():
    schedule = ScaledLinearBetaAngles(spacing="leading", final_zero=False)
    assert schedule.timesteps(4).tolist() == [751, 501, 251, 1]
    assert torch.equal(schedule.angles(4), schedule.table[[751, 501, 251, 1, 0]])
    assert schedule.angles(4)[-1].item() == pytest.approx(0.0387, abs=5e-5)


@pytest.mark.parametrize(
    ("num_steps", "timesteps"),
    [
        (1, [999]),
        (2, [999, 499]),
        (4, [999, 759, 499, 259]),
        (6, [999, 839, 679, 499, 339, 179]),
        (8, [999, 879, 759, 639, 499, 379, 259, 139]),
    ],
)
def test_grid_angles_are_the_few_step_timesteps_of_the_grid(num_steps, timesteps):
    schedule = ScaledLinearBetaAngles(spacing="lcm")
    angles = GridAngles(schedule, grid_steps=50).angles(num_steps)
    assert torch.equal(angles[:-1], schedule.table[timesteps])
    assert angles[-1] == 0


def test_full_grid_is_the_schedule_itself():
    assert torch.equal(GridAngles(LinearAngles(), grid_steps=12).angles(12), LinearAngles().angles(12))


def test_training_angles_of_a_table_are_its_entries():
    schedule = ScaledLinearBetaAngles()
    uniform = torch.tensor([[0.0, 0.00099], [0.001001, 1 - 2**-24]])
    expected = schedule.table[torch.tensor([[0, 0], [1, 999]])].float()
    assert torch.equal(schedule.training_angles(uniform), expected)
    assert torch.equal(GridAngles(schedule).training_angles(uniform), expected)


def test_training_angles_are_uniform_in_the_quarter_circle_by_default():
    uniform = torch.tensor([0.0, 0.25, 0.5])
    expected = torch.tensor([0, math.pi / 8, math.pi / 4])
    torch.testing.assert_close(LinearAngles().training_angles(uniform), expected)
    torch.testing.assert_close(GridAngles(LinearAngles()).training_angles(uniform), expected)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_no_steps_are_refused(schedule):
    with pytest.raises(ValueError, match="num_steps is 0"):
        schedule.angles(0)


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match="allows at most 50"):
        GridAngles(LinearAngles(), grid_steps=50).angles(51)
    with pytest.raises(ValueError, match="allows at most 1000"):
        ScaledLinearBetaAngles().angles(1001)
    with pytest.raises(ValueError, match="beyond 1000 timesteps"):
        ScaledLinearBetaAngles(spacing="leading").angles(1000)
    with pytest.raises(ValueError, match="visit timestep 0"):
        ScaledLinearBetaAngles(final_zero=False).angles(1000)
    with pytest.raises(ValueError, match="beta_start"):
        ScaledLinearBetaAngles(beta_start=0.02, beta_end=0.01)
