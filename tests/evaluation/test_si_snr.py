"""SI-SNR against torchmetrics and its scale, silence and damage rules."""

import pytest
import torch
from scipy import stats
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from melody_cm.evaluation import SISNR, si_snr

TARGET = torch.tensor([[[3.0, -0.5, 2.0, 7.0]]])
PREDICTION = torch.tensor([[[2.5, 0.0, 2.0, 8.0]]])


def noisy(amplitude=1.0, clips=4):
    target = amplitude * torch.randn(clips, 1, 1000)
    return target + 0.3 * amplitude * torch.randn(clips, 1, 1000), target


def score_of(prediction, target):
    metric = SISNR()
    metric.update(prediction, target)
    return metric.compute()


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
    assert score_of(torch.zeros_like(target), target).value == -60.0


def test_latents_of_any_shape_are_judged_as_one_signal():
    prediction, target = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    flat = si_snr(prediction.reshape(3, 1, -1), target.reshape(3, 1, -1))
    assert torch.equal(si_snr(prediction, target), flat)


def test_a_silent_target_and_broken_clips_are_left_out_and_counted():
    prediction, target = noisy(clips=7)
    clean = score_of(prediction[:2], target[:2])
    target[2] = 0
    target[3] *= 1e-6
    target[4] = 3.0  # A constant is no sound either.
    prediction[5, 0, 5] = float("nan")
    target[6, 0, 5] = float("inf")
    score = score_of(prediction, target)
    assert (score.value, score.low) == (pytest.approx(clean.value), pytest.approx(clean.low))
    assert (score.n_generated, score.n_reference) == (2, 2)
    assert score.dropped == {"generated": {"not finite": 2}, "reference": {"silent": 3}}


def test_no_usable_clip_gives_no_value():
    score = score_of(torch.randn(2, 1, 10), torch.zeros(2, 1, 10))
    assert (score.value, score.corrected, score.low, score.n_generated, score.too_few) == (None, None, None, 0, True)
    assert score.dropped["reference"] == {"silent": 2}


def test_batches_add_up_to_a_mean_with_its_interval():
    prediction, target = noisy(clips=12)
    metric = SISNR()
    for start in range(0, 12, 5):
        metric.update(prediction[start : start + 5], target[start : start + 5])
    score = metric.compute()
    decibel = si_snr(prediction, target).numpy()
    expected = stats.t.interval(0.95, 11, decibel.mean(), stats.sem(decibel))
    assert score.value == pytest.approx(decibel.mean())
    assert (score.low, score.high) == pytest.approx(expected)
    assert (score.corrected, score.too_few) == (score.value, False)
    metric.reset()
    assert metric.compute().n_generated == 0


def test_one_clip_has_a_value_but_no_interval():
    score = score_of(PREDICTION, TARGET)
    assert score.value == pytest.approx(15.0918, abs=1e-3)
    assert (score.corrected, score.low, score.too_few) == (None, None, True)
