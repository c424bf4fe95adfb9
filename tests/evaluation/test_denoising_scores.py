"""What one step of denoising is judged by, against closed forms for white Gaussian latents."""

import math

import pytest
import torch

from melody_cm.evaluation.si_snr import NUM_ANGLES, DenoisingScores, evaluation_angles

STD = 1 / 3


def gaussian(clips, frames=4000):
    generator = torch.Generator().manual_seed(1)
    latent = STD * torch.randn(clips, 2, frames, generator=generator)
    return latent, torch.randn(clips, 2, frames, generator=generator)


def score(predict, clips=6):
    """The scores of a predictor of (noisy, angle) on white Gaussian latents."""
    latent, noise = gaussian(clips)
    scores = DenoisingScores(clips)
    for index, angle in enumerate(evaluation_angles()):
        noisy = math.cos(angle) * latent + math.sin(angle) * noise
        scores.update(list(range(clips)), index, latent, noise, predict(noisy, angle))
    return scores.compute()


def linear(noisy, angle):
    """The best predictor that looks at one element at a time."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * sin * (1 - STD**2) / (STD**2 * cos**2 + sin**2) * noisy


def test_angles_are_the_midpoints_of_sixteen_equal_parts():
    angles = evaluation_angles()
    assert len(angles) == NUM_ANGLES == 16
    assert angles[0] == pytest.approx(math.pi / 64)
    assert angles[-1] == pytest.approx(math.pi / 2 - math.pi / 64)


def test_the_zero_predictor_has_the_velocitys_own_power():
    assert score(lambda noisy, angle: torch.zeros_like(noisy))["velocity_mse"] == pytest.approx(
        (1 + STD**2) / 2, rel=0.01
    )


def test_the_best_elementwise_predictor_has_error_s_and_gains_nothing():
    result = score(linear)
    assert result["velocity_mse"] == pytest.approx(STD, rel=0.01)
    assert result["si_snri"] == pytest.approx(0.0, abs=1e-3)
    assert result["si_snri_median"] == pytest.approx(0.0, abs=1e-3)


def test_the_curve_is_the_closed_form_at_every_angle():
    result = score(linear)
    for angle, error in zip(result["angles"], result["velocity_mse_by_angle"], strict=True):
        expected = STD**2 / (STD**2 * math.cos(angle) ** 2 + math.sin(angle) ** 2)
        assert error == pytest.approx(expected, rel=0.05)
    assert result["si_snri_by_angle"] == pytest.approx([0.0] * NUM_ANGLES, abs=1e-3)


def test_halving_the_noise_gains_six_decibel():
    latent, noise = gaussian(1, frames=200000)
    angle = evaluation_angles()[8]
    noisy = math.cos(angle) * latent + math.sin(angle) * noise
    # The velocity whose clean latent is proportional to `latent` with half as much noise.
    wanted = math.cos(angle) * latent + math.sin(angle) * noise / 2
    scores = DenoisingScores(1)
    scores.update([0], 8, latent, noise, (math.cos(angle) * noisy - wanted) / math.sin(angle))
    assert scores.compute()["si_snri"] == pytest.approx(20 * math.log10(2), abs=0.1)


def test_mean_and_median_are_those_of_all_rows():
    latent, noise = gaussian(3)
    scores = DenoisingScores(3)
    for row, gain in enumerate((1.0, 1.0, 0.0)):  # Two rows predicted exactly, one not at all.
        for index, angle in enumerate(evaluation_angles()):
            exact = math.cos(angle) * noise - math.sin(angle) * latent
            scores.update([row], index, *(x[row : row + 1] for x in (latent, noise, gain * exact)))
    result = scores.compute()
    assert result["velocity_mse"] == pytest.approx((1 + STD**2) / 6, rel=0.02)
    assert result["si_snri_median"] > 80
    assert result["si_snri"] < result["si_snri_median"] - 10


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda latent, noise, predicted: latent[1].zero_(), "silent"),
        (lambda latent, noise, predicted: predicted[1, 0, 0].fill_(math.nan), "not_finite"),
        (lambda latent, noise, predicted: latent[1, 0, 0].fill_(math.inf), "not_finite"),
    ],
)
def test_a_silent_or_broken_row_is_counted_and_changes_no_other(spoil, reason):
    latent, noise = gaussian(3)
    predicted = 0.5 * noise
    whole, rest = DenoisingScores(3), DenoisingScores(3)
    rest.update([0, 2], 4, latent[[0, 2]], noise[[0, 2]], predicted[[0, 2]])
    spoil(latent, noise, predicted)
    whole.update([0, 1, 2], 4, latent, noise, predicted)
    spoilt, expected = whole.compute(), rest.compute()
    assert (spoilt["n"], spoilt[reason]) == (2, 1)
    for name in ("velocity_mse", "si_snri", "si_snri_median"):
        assert spoilt[name] == expected[name]
    for name in ("velocity_mse_by_angle", "si_snri_by_angle"):
        assert spoilt[name][4] == expected[name][4]


def test_without_a_usable_row_there_is_no_value():
    scores = DenoisingScores(1)
    scores.update([0], 0, torch.zeros(1, 2, 8), torch.ones(1, 2, 8), torch.ones(1, 2, 8))
    result = scores.compute()
    assert result["velocity_mse"] is result["si_snri"] is result["si_snri_median"] is None
    assert (result["n"], result["silent"]) == (0, 1)
    assert result["si_snri_by_angle"] == [None] * NUM_ANGLES
