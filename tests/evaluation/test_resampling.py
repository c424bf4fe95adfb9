"""Resampling keeps a tone a tone."""

import math

import pytest
import torch
from toy_systems import ToyEmbedding

from melody_cm.evaluation import embed, resample


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


def test_embed_brings_audio_to_the_embeddings_rate():
    embedding = ToyEmbedding()
    assert embed(embedding, tone(24000, hertz=10.0), 24000).shape == (1, 4, 2)
