"""SI-SNR against torchmetrics and its scale, silence and damage rules."""

import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from melody_cm.evaluation import mean_si_snr, mean_si_snr_improvement, si_snr

TARGET = torch.tensor([[[3.0, -0.5, 2.0, 7.0]]])
PREDICTION = torch.tensor([[[2.5, 0.0, 2.0, 8.0]]])


def noisy(amplitude=1.0, clips=4):
    target = amplitude * torch.randn(clips, 1, 1000)
    return target + 0.3 * amplitude * torch.randn(clips, 1, 1000), target


def test_the_documented_example():
    assert si_snr(PREDICTION, TARGET).item() == pytest.approx(15.0918, abs=1e-3)


def test_equals_torchmetrics_on_ordinary_audio():
    prediction, target = noisy()
    expected = scale_invariant_signal_noise_ratio(prediction.double(), target.double())[:, 0]
    torch.testing.assert_close(si_snr(prediction, target), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gain", [0.5, -1.0, 20.0])
def test_gain_and_offset_change_nothing_even_for_very_quiet_audio(gain):
    prediction, target = noisy(amplitude=1e-5)
    expected = si_snr(1e5 * prediction, 1e5 * target)
    torch.testing.assert_close(si_snr(gain * prediction, target), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(si_snr(prediction.double() + 3, target), expected, rtol=0, atol=1e-4)


def test_identical_audio_gets_the_ceiling_and_a_silent_prediction_the_floor():
    _, target = noisy()
    assert si_snr(target, target).tolist() == [100.0] * 4
    assert si_snr(torch.zeros_like(target), target).tolist() == [-60.0] * 4
    assert mean_si_snr(torch.zeros_like(target), target).value == -60.0


def test_a_silent_target_and_broken_clips_are_left_out_and_counted():
    prediction, target = noisy(clips=6)
    clean = mean_si_snr(prediction[:2], target[:2])
    target[2] = 0
    target[3] *= 1e-6
    prediction[4, 0, 5] = float("nan")
    target[5, 0, 5] = float("inf")
    result = mean_si_snr(prediction, target)
    assert result.value == pytest.approx(clean.value)
    assert (result.n, result.n_silent, result.n_nonfinite) == (2, 2, 2)


def test_no_usable_clip_gives_no_value():
    result = mean_si_snr(torch.randn(2, 1, 10), torch.zeros(2, 1, 10))
    assert (result.value, result.n, result.n_silent) == (None, 0, 2)


def test_the_improvement_is_the_difference_over_the_same_clips():
    better, target = noisy()
    worse = target + torch.randn_like(target)
    result = mean_si_snr_improvement(better, worse, target)
    expected = mean_si_snr(better, target).value - mean_si_snr(worse, target).value
    assert result.value == pytest.approx(expected)
    assert result.value > 5
    worse[0] = float("nan")
    assert mean_si_snr_improvement(better, worse, target).n_nonfinite == 1
