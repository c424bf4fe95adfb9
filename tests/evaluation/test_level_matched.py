"""An embedding at equal loudness: deaf to gain, and never taken for the plain one."""

import pytest
import torch

from melody_cm.evaluation.embeddings import LevelMatchedEmbedding, LogMelEmbedding
from melody_cm.evaluation.score import Score, refuse_unlike
from melody_cm.signal.loudness import loudness
from melody_cm.storage import build


class Heard(LogMelEmbedding):
    """Keeps what it was given."""

    def forward(self, waveform):
        self.waveform = waveform
        return super().forward(waveform)


@torch.no_grad()
def test_every_clip_is_heard_at_the_same_loudness():
    heard = Heard()
    embedding = LevelMatchedEmbedding(heard)
    noise = 0.1 * torch.randn(1, 1, 32000)
    clips = torch.cat([noise, noise / 2, 9 * noise])
    vectors = embedding(clips)
    assert [loudness(clip[0], 16000) for clip in heard.waveform] == pytest.approx([-23.0] * 3, abs=1e-3)
    torch.testing.assert_close(vectors[1], vectors[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vectors[2], vectors[0], atol=1e-4, rtol=1e-4)
    assert (LogMelEmbedding()(clips)[1] - LogMelEmbedding()(clips)[0]).abs().max() > 0.5


@torch.no_grad()
def test_silence_stays_silence():
    silence = torch.zeros(1, 1, 32000)
    torch.testing.assert_close(LevelMatchedEmbedding(LogMelEmbedding())(silence), LogMelEmbedding()(silence))


def test_its_scores_are_not_compared_with_plain_ones():
    plain, level = LogMelEmbedding(), LevelMatchedEmbedding(LogMelEmbedding())
    assert (level.name, level.width, level.identity.trained) == ("logmel_level", 32, False)
    one, other = (Score.mean([1.0, 2.0], "", embedding=vars(each.identity)) for each in (plain, level))
    with pytest.raises(ValueError, match="cannot be compared"):
        refuse_unlike(one, other)


def test_an_embedding_is_nested_in_a_recipe_and_texts_pass():
    inner = {"class_path": "melody_cm.evaluation.embeddings.LogMelEmbedding", "init_args": {"num_bands": 4}}
    path = "melody_cm.evaluation.embeddings.LevelMatchedEmbedding"
    embedding = build({"class_path": path, "init_args": {"embedding": inner}})
    assert embedding.width == 8
    assert not hasattr(embedding, "embed_text")

    class WithTexts(LogMelEmbedding):
        tags = ("guitar",)

        def embed_text(self, texts):
            return torch.ones(len(texts), 32)

    embedding = LevelMatchedEmbedding(WithTexts())
    assert embedding.embed_text(["a"]).shape == (1, 32)
    assert embedding.tags == ("guitar",)
