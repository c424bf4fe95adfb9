"""Each damage does what its name says, and nothing else."""

import math

import pytest
import torch

from melody_cm.evaluation.selftest import DAMAGES

RATE = 16000


def tone(hertz, seconds=2.0, amplitude=0.25):
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * RATE)) / RATE)


def peak_hertz(waveform):
    return torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs().argmax().item() * RATE / len(waveform)


def rms(waveform):
    return waveform.square().mean().sqrt().item()


@pytest.mark.parametrize("name", DAMAGES)
def test_length_and_range_stay_and_the_music_is_left_alone(name):
    music = tone(440.0)
    kept = music.clone()
    damaged = DAMAGES[name](music, RATE, 3)
    assert damaged.shape == music.shape
    assert damaged.dtype == torch.float32
    assert damaged.abs().max() <= 1
    assert torch.equal(music, kept)
    assert not torch.equal(damaged, music)
    assert torch.equal(damaged, DAMAGES[name](music, RATE, 3))


def test_silence_is_silent_and_half_volume_half():
    assert not DAMAGES["silence"](tone(440.0), RATE, 0).any()
    assert torch.equal(2 * DAMAGES["half volume"](tone(440.0), RATE, 0), tone(440.0))


def test_noise_is_white_as_loud_as_the_music_and_another_for_every_clip():
    first, second = (DAMAGES["white noise"](tone(440.0), RATE, item) for item in (0, 1))
    assert rms(first) == pytest.approx(rms(tone(440.0)), rel=0.02)
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.03
    power = torch.fft.rfft(first).abs().square()
    halves = power[: len(power) // 2].mean(), power[len(power) // 2 :].mean()
    assert (halves[0] / halves[1]).item() == pytest.approx(1, abs=0.1)


def test_low_pass_keeps_low_tones_and_takes_high_ones():
    assert rms(DAMAGES["low-pass 1 kHz"](tone(200.0), RATE, 0)) == pytest.approx(rms(tone(200.0)), rel=0.01)
    assert rms(DAMAGES["low-pass 1 kHz"](tone(4000.0), RATE, 0)) < 0.02 * rms(tone(4000.0))


def test_pitch_shift_is_four_semitones_at_the_same_tempo():
    shifted = DAMAGES["pitch +4 semitones"](tone(440.0), RATE, 0)
    assert peak_hertz(shifted) == pytest.approx(440 * 2 ** (4 / 12), rel=0.01)


def test_mp3_keeps_the_tune():
    assert peak_hertz(DAMAGES["MP3, lowest quality"](tone(440.0), RATE, 0)) == pytest.approx(440, rel=0.01)
