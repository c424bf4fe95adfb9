"""Resampling keeps a tone a tone."""

import math

import pytest
import torch

from melody_cm.signal import resample


def tone(sample_rate, seconds=0.5, hertz=100.0):
    return torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * sample_rate)) / sample_rate)[None, None]


@pytest.mark.parametrize(("source", "target"), [(24000, 16000), (16000, 24000), (44100, 16000)])
def test_a_tone_stays_the_same_tone(source, target):
    both = torch.cat([tone(source), 0.5 * tone(source)])
    resampled = resample(both, source, target)
    assert resampled.shape == (2, 1, target // 2)
    middle = slice(target // 10, -target // 10)
    torch.testing.assert_close(resampled[0, 0, middle], tone(target)[0, 0, middle], rtol=0, atol=1e-3)
    torch.testing.assert_close(resampled[1], 0.5 * resampled[0], rtol=0, atol=1e-6)


def test_the_same_rate_is_left_untouched():
    waveform = tone(16000)
    assert resample(waveform, 16000, 16000) is waveform
