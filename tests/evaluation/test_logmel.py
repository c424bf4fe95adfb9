"""The log-mel embedding: geometry, known sounds, and what it must not hear."""

import math
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import yaml

from melody_cm.evaluation import frechet_distance
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.storage import build

PRESET = Path(__file__).resolve().parents[2] / "configs" / "embedding" / "logmel.yaml"


def tone(hertz, seconds=1.92, amplitude=0.5):
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * 16000)) / 16000)[None, None]


def test_the_preset_is_small_and_untrained():
    embedding = build(yaml.safe_load(PRESET.read_text()))
    assert (embedding.name, embedding.width, embedding.identity.trained) == ("logmel", 32, False)
    assert not list(embedding.parameters())
    assert embedding.state_dict() == {}


@pytest.mark.parametrize(("seconds", "patches"), [(0.96, 1), (2.56, 2), (6.0, 6), (10.0, 10)])
def test_one_embedding_for_every_whole_patch(seconds, patches):
    assert LogMelEmbedding()(torch.randn(3, 1, round(seconds * 16000))).shape == (3, patches, 32)


def test_audio_shorter_than_a_patch_is_an_error():
    with pytest.raises(ValueError, match=r"0\.50 s of audio; logmel needs at least 0\.96 s"):
        LogMelEmbedding()(torch.randn(1, 1, 8000))
    with pytest.raises(ValueError, match="num_bands is 64"):
        LogMelEmbedding(64)


def test_equals_statistics_of_librosas_mel():
    waveform = 0.3 * torch.randn(1, 1, 2 * 15360)
    mel = librosa.feature.melspectrogram(
        y=waveform[0, 0].numpy(), sr=16000, n_fft=512, hop_length=160, n_mels=16, fmin=125, fmax=7500, power=1,
        pad_mode="reflect",
    )  # fmt: skip
    log_mel = np.log(np.maximum(mel, 1e-3))[:, :192].reshape(16, 2, 96)
    expected = np.concatenate([log_mel.mean(-1), log_mel.std(-1, ddof=1)]).T
    np.testing.assert_allclose(LogMelEmbedding()(waveform)[0].numpy(), expected, atol=1e-4)


def test_a_steady_tone_is_loudest_in_its_band_and_moves_little():
    embedding = LogMelEmbedding()
    low, high = (embedding(tone(hertz))[0, 0] for hertz in (300.0, 4000.0))
    assert low[:16].argmax() < high[:16].argmax()
    assert low[16:].max() < 0.7
    assert embedding(torch.randn(1, 1, 15360))[0, 0, 16:].mean() > 0.1


def test_what_is_nearly_silent_counts_as_silent():
    embedding = LogMelEmbedding()
    silence = embedding(torch.zeros(1, 1, 15360))
    torch.testing.assert_close(embedding(1e-5 * torch.randn(1, 1, 15360)), silence)
    assert silence.isfinite().all()
    torch.testing.assert_close(silence[0, 0, :16], torch.full((16,), math.log(1e-3)))


def test_the_identity_names_the_settings():
    assert LogMelEmbedding(8).identity != LogMelEmbedding(16).identity


def distance(first, second):
    embedding = LogMelEmbedding()
    pooled = [part for clips in (first, second) for part in gaussian(embedding(clips).flatten(0, 1).double())]
    return frechet_distance(*pooled)


def gaussian(frames):
    return frames.mean(0), torch.cov(frames.T)


def test_different_tones_are_nearer_to_tones_than_noise_is():
    tones = torch.cat([tone(100.0 + 40 * i, amplitude=0.1 + 0.01 * i) for i in range(40)])
    noise = 0.2 * torch.randn(20, 1, tones.shape[-1])
    same, other = distance(tones[::2], tones[1::2]), distance(noise, tones[1::2])
    assert other > 5 * same
