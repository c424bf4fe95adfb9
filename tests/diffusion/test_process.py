import math

import pytest
import torch
from diffusion_toys import over_latent

from melody_cm.diffusion import (
    ScaledLinearBetaAngles,
    clean_from_velocity,
    ddim_step,
    diffuse,
    velocity,
    velocity_from_noise,
)

SHAPES = [(3, 4, 10), (3, 4, 10, 6)]


def latent_noise_angle(shape, per_frame):
    latent, noise = torch.randn(shape), torch.randn(shape)
    angle = torch.rand(shape[0], shape[2]) if per_frame else torch.rand(shape[0])
    return latent, noise, 0.05 + 1.4 * angle


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_frame", [False, True])
def test_process_equals_the_formulas_element_by_element(shape, per_frame):
    latent, noise, angle = latent_noise_angle(shape, per_frame)
    row, frame = 2, 7
    delta = (angle[row, frame] if per_frame else angle[row]).item()
    z, e = latent[row, 1, frame], noise[row, 1, frame]
    torch.testing.assert_close(diffuse(latent, noise, angle)[row, 1, frame], math.cos(delta) * z + math.sin(delta) * e)
    torch.testing.assert_close(velocity(latent, noise, angle)[row, 1, frame], math.cos(delta) * e - math.sin(delta) * z)


def test_velocity_is_the_derivative_by_the_angle():
    latent, noise, angle = (x.double() for x in latent_noise_angle((3, 4, 10), per_frame=True))
    step = 1e-5
    slope = (diffuse(latent, noise, angle + step) - diffuse(latent, noise, angle - step)) / (2 * step)
    torch.testing.assert_close(velocity(latent, noise, angle), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_frame", [False, True])
def test_conversions_invert(shape, per_frame):
    latent, noise, angle = latent_noise_angle(shape, per_frame)
    noisy, exact = diffuse(latent, noise, angle), velocity(latent, noise, angle)
    torch.testing.assert_close(clean_from_velocity(noisy, exact, angle), latent)
    torch.testing.assert_close(velocity_from_noise(noisy, noise, angle), exact, rtol=1e-5, atol=1e-5)


def test_velocity_from_noise_survives_the_last_angle_of_musicldm():
    table = ScaledLinearBetaAngles().table
    latent, noise, angle = torch.randn(2, 4, 8), torch.randn(2, 4, 8), table[[999, 998]].float()
    converted = velocity_from_noise(diffuse(latent, noise, angle), noise, angle)
    torch.testing.assert_close(converted, velocity(latent, noise, angle), rtol=1e-4, atol=1e-4)


def test_diffusing_keeps_unit_variance():
    latent, noise = torch.randn(200, 4, 100), torch.randn(200, 4, 100)
    noisy = diffuse(latent, noise, torch.linspace(0, math.pi / 2, 200))
    assert noisy.var(dim=(1, 2)).mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("per_frame", [False, True])
def test_one_exact_step_recovers_the_latent(per_frame):
    latent, noise, angle = latent_noise_angle((3, 4, 10), per_frame)
    recovered = ddim_step(diffuse(latent, noise, angle), velocity(latent, noise, angle), angle, torch.zeros_like(angle))
    torch.testing.assert_close(recovered, latent)


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_step_lands_on_the_path(shape):
    latent, noise, angle = latent_noise_angle(shape, per_frame=True)
    lower = angle * 0.6
    stepped = ddim_step(diffuse(latent, noise, angle), velocity(latent, noise, angle), angle, lower)
    alpha, sigma = over_latent(lower, latent).cos(), over_latent(lower, latent).sin()
    torch.testing.assert_close(stepped, alpha * latent + sigma * noise, rtol=1e-5, atol=1e-5)


def test_noise_path_equals_velocity_path():
    """The DDIM step as LCM writes it, `alpha_s * x0 + sigma_s * eps`, from one noise prediction."""
    table = ScaledLinearBetaAngles().table
    angle, lower = table[[999, 500]].float(), table[[799, 0]].float()
    noisy, predicted_noise = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    alpha, sigma = over_latent(angle.double(), noisy).cos(), over_latent(angle.double(), noisy).sin()
    clean = (noisy - sigma * predicted_noise) / alpha
    expected = (
        over_latent(lower.double(), noisy).cos() * clean + over_latent(lower.double(), noisy).sin() * predicted_noise
    )
    stepped = ddim_step(noisy, velocity_from_noise(noisy, predicted_noise, angle), angle, lower)
    torch.testing.assert_close(stepped.double(), expected, rtol=1e-4, atol=1e-4)


def test_angle_zero_changes_nothing_bit_for_bit():
    latent, other = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    for angle in (torch.zeros(2), torch.zeros(2, 8)):
        assert torch.equal(diffuse(latent, other, angle), latent)
        assert torch.equal(clean_from_velocity(latent, other, angle), latent)
        assert torch.equal(ddim_step(latent, other, angle, angle), latent)


def test_half_precision_velocity_is_used_in_fp32():
    noisy, predicted = torch.randn(2, 4, 8), torch.randn(2, 4, 8).bfloat16()
    angle = torch.tensor([0.3, 1.2])
    for convert in (clean_from_velocity, velocity_from_noise):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            converted = convert(noisy, predicted, angle)
        assert converted.dtype == torch.float32
        assert torch.equal(converted, convert(noisy, predicted.float(), angle))
