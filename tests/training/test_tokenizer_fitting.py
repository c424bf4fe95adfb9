"""Fitting a tokenizer: at which rate the music comes."""

import pytest
import torch

from melody_cm.encoders import LogMelKMeans, ResidualKMeans
from melody_cm.interfaces import JointEmbedding
from melody_cm.training import TokenizerFitting
from melody_cm.training.tokenizer import idle_codebooks


class Embedding(JointEmbedding):
    """Hears 8000 Hz."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = 8000, 1.0, 4

    def embed_audio(self, waveform):
        return torch.zeros(len(waveform), 4)

    def embed_text(self, texts):
        return torch.zeros(len(texts), 4)


def log_mel():
    return LogMelKMeans(8000, codebook_size=4, num_mels=4, n_fft=256)


def residual():
    return ResidualKMeans(Embedding(), num_codebooks=1, codebook_size=4, width=4)


@pytest.mark.parametrize(("make", "part"), [(log_mel, "tokenizer"), (residual, r"tokenizer\.embedding")])
def test_music_of_another_rate_than_the_tokenizer_hears_is_refused_with_both_numbers(make, part):
    assert TokenizerFitting(make(), sample_rate=8000).sample_rate == 8000
    message = f"^{part} works at 8000 Hz but the data has 16000 Hz; set data.sample_rate to 8000"
    with pytest.raises(ValueError, match=message):
        TokenizerFitting(make(), sample_rate=16000)


def test_codebooks_used_as_if_they_had_fewer_than_half_of_their_entries_are_named():
    assert idle_codebooks([4.0, 8.0], size=8) is None
    line = idle_codebooks([6.0, 3.0, 1.2], size=8)
    assert "codebook of 8" in line
    assert "level 2: 3, level 3: 1" in line
    assert "level 1" not in line
