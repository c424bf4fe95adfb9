import math

import pytest
import torch
from diffusion_toys import WavyNetwork, no_conditioning

from melody_cm.diffusion import ScaledLinearBetaAngles, TimestepDenoiser, UniformAngles


def denoise(denoiser, angle):
    return denoiser(torch.randn(len(angle), 4, 8), angle, no_conditioning(len(angle)))


@pytest.mark.parametrize("zero_snr", [False, True])
def test_every_angle_of_the_table_finds_its_timestep(zero_snr):
    schedule = ScaledLinearBetaAngles(zero_terminal_snr=zero_snr)
    network = WavyNetwork()
    denoise(TimestepDenoiser(network, schedule, "velocity"), schedule.table.float())
    assert network.timesteps[0].tolist() == list(range(1000))


def test_other_angles_find_the_nearest_timestep():
    schedule = ScaledLinearBetaAngles()
    angles = UniformAngles().angles(137).float()
    nearest = (angles.double()[:, None] - schedule.table).abs().argmin(dim=1)
    found = TimestepDenoiser(WavyNetwork(), schedule, "velocity").nearest_timestep(angles)
    assert found.tolist() == nearest.tolist()
    assert found[0] == 999
    assert found[-1] == 0


def test_half_precision_networks_keep_their_timesteps():
    schedule, network = ScaledLinearBetaAngles(), WavyNetwork()
    denoise(TimestepDenoiser(network, schedule, "velocity").bfloat16(), schedule.table[[500, 501, 997]].float())
    assert network.timesteps[0].tolist() == [500, 501, 997]


def test_velocity_networks_are_passed_through_and_noise_is_converted():
    schedule, network = ScaledLinearBetaAngles(), WavyNetwork()
    noisy, angle = torch.randn(3, 4, 8), schedule.table[[0, 400, 999]].float()
    output = network(noisy, torch.tensor([0.0, 400.0, 999.0]), no_conditioning(3))
    velocity = TimestepDenoiser(network, schedule, "velocity")(noisy, angle, no_conditioning(3))
    assert torch.equal(velocity, output)
    alpha, sigma = angle.double().cos()[:, None, None], angle.double().sin()[:, None, None]
    clean = (noisy.double() - sigma * output.double()) / alpha
    converted = TimestepDenoiser(network, schedule, "noise")(noisy, angle, no_conditioning(3))
    torch.testing.assert_close(converted.double(), alpha * output - sigma * clean, rtol=1e-4, atol=1e-4)


def test_noise_networks_refuse_angles_beyond_their_table():
    denoiser = TimestepDenoiser(WavyNetwork(), ScaledLinearBetaAngles(), "noise")
    assert denoise(denoiser, ScaledLinearBetaAngles().table[-1:].float()).isfinite().all()
    with pytest.raises(ValueError, match=r"angle 1\.5708 is beyond 1\.5589"):
        denoise(denoiser, torch.tensor([0.3, math.pi / 2]))
    velocity_denoiser = TimestepDenoiser(WavyNetwork(), ScaledLinearBetaAngles(), "velocity")
    assert denoise(velocity_denoiser, torch.tensor([0.3, math.pi / 2])).isfinite().all()


def test_noise_networks_refuse_zero_terminal_snr():
    with pytest.raises(ValueError, match="needs a velocity network"):
        TimestepDenoiser(WavyNetwork(), ScaledLinearBetaAngles(zero_terminal_snr=True), "noise")


def test_angles_per_frame_are_refused():
    denoiser = TimestepDenoiser(WavyNetwork(), ScaledLinearBetaAngles(), "velocity")
    assert not denoiser.per_frame_angles
    with pytest.raises(ValueError, match=r"shape \(2, 8\)"):
        denoise(denoiser, torch.rand(2, 8))
