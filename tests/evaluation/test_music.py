"""Measures of music on sounds whose values are known."""

import math

import librosa
import numpy as np
import pytest
import torch
from scipy import stats

from melody_cm.evaluation.music import (
    chroma_correlation,
    comb_excess,
    level_dbfs,
    log_spectral_distance,
    middle_half,
    music_measures,
    pair_measures,
)

RATE = 22050


def note(midi, seconds=0.5, rate=RATE):
    time = torch.arange(round(seconds * rate)) / rate
    hertz = 440 * 2 ** ((midi - 69) / 12)
    sound = sum(torch.sin(2 * math.pi * hertz * k * time) / k for k in range(1, 5))
    return 0.2 * sound * torch.exp(-3 * time)


def melody(*notes):
    return torch.cat([note(midi) for midi in notes])


def noise(seconds=4.0, seed=0):
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


SONG = (60, 64, 67, 72, 65, 69, 62, 67)


def test_chroma_hears_notes_but_neither_octave_level_nor_a_little_noise():
    song = melody(*SONG)

    def of(other):
        return chroma_correlation(other, song, RATE)

    assert of(song) == pytest.approx(1.0)
    assert of(0.1 * song) == pytest.approx(1.0, abs=1e-3)
    assert of(song + 0.1 * noise()) > 0.95
    assert of(melody(*(midi - 12 for midi in SONG))) > 0.8
    assert of(melody(*(midi + 1 for midi in SONG))) < 0.1
    assert of(melody(*SONG[::-1])) < 0.5
    assert abs(of(noise())) < 0.2
    assert math.isnan(of(torch.zeros_like(song)))


def test_chroma_correlation_is_numpys_over_all_entries():
    song, other = melody(*SONG), melody(*SONG[::-1])
    pair = [librosa.feature.chroma_cqt(y=one.numpy(), sr=RATE, norm=None, tuning=0.0) for one in (song, other)]
    # Every frame's mean over pitch classes is 0, so this is Pearson's of the flat arrays.
    flat = [(chroma - chroma.mean(0, keepdims=True)).ravel() for chroma in pair]
    assert chroma_correlation(song, other, RATE) == pytest.approx(np.corrcoef(*flat)[0, 1], abs=1e-4)


def test_clear_pitch_beat_and_level_against_noise():
    tones, hiss = music_measures(melody(*SONG), RATE), music_measures(noise(), RATE)
    assert tones["chroma_clarity"] > 0.4 > 0.1 > hiss["chroma_clarity"]
    assert tones["pitch_clarity"] > 0.95
    assert hiss["pitch_clarity"] < 0.3
    assert tones["tempo_clarity"] > 0.8  # A note every half second: 120 BPM.
    assert hiss["tempo_clarity"] < 0.4
    assert hiss["level_dbfs"] == pytest.approx(-20, abs=0.1)
    pad = torch.sin(2 * math.pi * 220 * torch.arange(4 * RATE) / RATE)
    assert music_measures(pad, RATE)["onset_strength"] < tones["onset_strength"]


def test_chroma_clarity_is_the_entropy_of_scipy():
    song = melody(*SONG) + 0.1 * noise()
    chroma = librosa.feature.chroma_cqt(y=song.numpy(), sr=RATE, norm=None, tuning=0.0).astype(np.float64)
    expected = np.average(1 - stats.entropy(chroma, base=12, axis=0), weights=chroma.sum(0))
    assert music_measures(song, RATE)["chroma_clarity"] == pytest.approx(expected, abs=1e-6)


def test_onset_strength_is_the_rise_of_log_mels():
    song = melody(*SONG) + 0.1 * noise()
    mels = librosa.power_to_db(librosa.feature.melspectrogram(y=song.numpy(), sr=RATE, hop_length=512))
    rise = np.maximum(np.diff(mels, axis=1), 0).mean(0)
    padded = np.concatenate([np.zeros(3), rise])[: mels.shape[1]]  # A frame's lag, and half a window.
    assert music_measures(song, RATE)["onset_strength"] == pytest.approx(padded.mean(), rel=1e-5)


def test_tempo_clarity_is_the_best_correlation_of_onsets_with_themselves():
    song = melody(*SONG) + 0.1 * noise()
    onsets, frames = librosa.onset.onset_strength(y=song.numpy(), sr=RATE, hop_length=512), RATE / 512
    lags = range(round(frames * 60 / 240), min(round(frames * 60 / 40), len(onsets) // 2) + 1)
    expected = max(np.corrcoef(onsets[lag:], onsets[:-lag])[0, 1] for lag in lags)
    assert music_measures(song, RATE)["tempo_clarity"] == pytest.approx(expected, abs=1e-6)


def test_pitch_clarity_is_the_autocorrelation_by_a_loop():
    sound = melody(57)[:2048] + 0.05 * noise()[:2048]
    x = sound.double().numpy()
    found = []
    for lag in range(1, 402):
        first, second = x[: len(x) - lag], x[lag:]
        found.append(2 * (first * second).sum() / ((first**2).sum() + (second**2).sum()))
    below = next(index for index, value in enumerate(found) if value < 0)
    expected = max(found[max(below, 12) : 400])  # Lags of 1760 Hz to 55 Hz: 13 to 400.
    measured = music_measures(sound, RATE)["pitch_clarity"]
    assert measured == pytest.approx(expected, abs=1e-6)


def test_a_higher_pitch_keeps_its_clarity():
    for midi in (40, 52, 64, 76, 88):
        assert music_measures(note(midi, 1.0), RATE)["pitch_clarity"] > 0.9, midi


def test_half_as_loud_is_6_db_apart_and_silence_has_only_a_level():
    song = melody(*SONG)
    assert level_dbfs(song) - level_dbfs(song / 2) == pytest.approx(6.02, abs=0.01)
    measures = music_measures(torch.zeros(RATE), RATE)
    assert measures["level_dbfs"] == measures["loudness_lufs"] == -math.inf
    assert all(math.isnan(measures[name]) for name in ("chroma_clarity", "pitch_clarity", "tempo_clarity"))


def test_log_spectral_distance_by_hand():
    hiss, other = noise(1.0), noise(1.0, seed=1)
    assert log_spectral_distance(hiss, hiss) == 0
    assert log_spectral_distance(hiss / 2, hiss) == pytest.approx(6.02, abs=0.01)
    spectra = [np.abs(librosa.stft(one.double().numpy(), n_fft=2048, pad_mode="reflect")) for one in (other, hiss)]
    floor = spectra[1].max() * 1e-4
    difference = 20 * np.log10(np.maximum(spectra[0], floor) / np.maximum(spectra[1], floor))
    expected = np.sqrt((difference**2).mean(0)).mean()
    assert log_spectral_distance(other, hiss) == pytest.approx(expected, rel=1e-6)
    assert log_spectral_distance(1e-9 * hiss, hiss) < 80.1
    assert math.isnan(log_spectral_distance(hiss, torch.zeros_like(hiss)))


def test_pairs_are_measured_over_their_common_length():
    song = melody(*SONG)
    found = pair_measures(song, torch.cat([song, noise()]), RATE)
    assert found["chroma_correlation"] == pytest.approx(1.0)
    assert found["log_spectral_distance"] == pytest.approx(0.0)


@pytest.mark.parametrize("latent_rate", [62.5, 75.0, 86.1328125])
def test_the_comb_stands_out_by_what_was_added(latent_rate):
    hiss = noise(8.0)
    assert comb_excess(hiss, RATE, latent_rate) == pytest.approx(0, abs=0.5)
    time = torch.arange(len(hiss)) / RATE
    teeth = torch.arange(latent_rate, RATE / 2, latent_rate, dtype=torch.float64)
    hum = sum(torch.sin(2 * math.pi * tooth * time.double() + tooth) for tooth in teeth.tolist()).float()
    excess = [comb_excess(hiss + amplitude * hum, RATE, latent_rate) for amplitude in (0.003, 0.006)]
    assert excess[1] > excess[0] + 3 > 5
    # A Hann window's noise bandwidth is 1.5 bins: a^2 / 2 of signal over 2 s^2 / rate * 1.5 * rate / frame of noise.
    frame = round(16 * RATE / latent_rate)
    expected = 10 * math.log10(1 + (0.006**2 / 2) / (2 * 0.01 / RATE * 1.5 * RATE / frame))
    assert excess[1] == pytest.approx(expected, abs=1.2)
    # Another rate's teeth are not taken for its own.
    assert abs(comb_excess(hiss + 0.006 * hum, RATE, latent_rate * 1.31)) < 1.5


def test_a_comb_that_the_clip_cannot_show_is_refused():
    with pytest.raises(ValueError, match=r"latent_rate is 1 Hz; this clip allows 4 to 11025 Hz"):
        comb_excess(noise(), RATE, 1.0)


def test_the_middle_half_of_real_music():
    measures = [{"level_dbfs": float(level), "odd": 1.0} for level in (-30, -20, -10, -16, -24)]
    measures += [{"level_dbfs": -math.inf}]
    assert middle_half(measures) == {"level_dbfs": (-24.0, -16.0), "odd": (1.0, 1.0)}
    assert middle_half(measures[:3]) == {}
