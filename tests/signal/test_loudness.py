"""Loudness against the numbers of ITU-R BS.1770-4 and EBU Tech 3341."""

import math

import pytest
import torch

from melody_cm.signal.loudness import loudness


def tone(decibels, seconds=20.0, hertz=1000.0, rate=48000):
    return 10 ** (decibels / 20) * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_a_tone_at_full_scale_in_one_channel(rate):
    assert loudness(tone(0, hertz=997.0, rate=rate), rate) == pytest.approx(-3.01, abs=0.05)


def test_the_gated_sequences_of_the_broadcasting_union():
    # Tech 3341, signals 1 to 4, for one channel instead of two: 3.01 lower.
    assert loudness(tone(-23), 48000) == pytest.approx(-26.01, abs=0.1)
    assert loudness(tone(-33), 48000) == pytest.approx(-36.01, abs=0.1)
    parts = torch.cat([tone(-36, 10), tone(-23, 60), tone(-36, 10)])
    assert loudness(parts, 48000) == pytest.approx(-26.01, abs=0.1)
    parts = torch.cat([tone(-72, 10), tone(-36, 10), tone(-23, 60), tone(-36, 10), tone(-72, 10)])
    assert loudness(parts, 48000) == pytest.approx(-26.01, abs=0.1)


def test_the_ear_hears_little_of_the_deep_and_more_of_the_high():
    # Of the standard's filters at 48 kHz: about -13 dB at 25 Hz and +3.3 dB beyond 3 kHz, relative to 997 Hz.
    middle = loudness(tone(-20), 48000)
    assert loudness(tone(-20, hertz=8000.0), 48000) - middle == pytest.approx(3.3, abs=0.2)
    assert loudness(tone(-20, hertz=25.0), 48000) - middle == pytest.approx(-11.1, abs=1.0)


def test_silence_and_what_is_shorter_than_a_block():
    assert loudness(torch.zeros(48000), 48000) == -math.inf
    assert loudness(tone(-20, 0.1), 48000) == pytest.approx(-23.0, abs=0.5)
