from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from encoder_toys import SAMPLE_RATE, SpectrumEmbedding, music_batch

from melody_cm.batch import MusicBatch
from melody_cm.encoders import LogMelKMeans, ResidualKMeans, SemanticConditioner, TextConditioner
from melody_cm.interfaces import JointEmbedding


@pytest.fixture
def tokenizer() -> LogMelKMeans:
    tokenizer = LogMelKMeans(SAMPLE_RATE, codebook_size=8, num_mels=20, n_fft=256)
    tokenizer.fit(tokenizer.features(music_batch(8)).flatten(0, 1), seed=0)
    return tokenizer


def test_semantic_codes_become_normalized_vectors_and_their_mean(tokenizer):
    conditioner = SemanticConditioner(tokenizer, codebook_size=8, width=12)
    batch = music_batch()
    codes = conditioner.describe(batch)
    assert torch.equal(codes, tokenizer(batch))
    conditioning = conditioner.embed(codes)
    first, _, second, norm = conditioner.mlp.layers
    hidden = F.linear(conditioner.table.weight[codes[:, 0]], first.weight, first.bias)
    hidden = F.linear(F.gelu(hidden), second.weight, second.bias)
    expected = norm.weight * hidden / (hidden.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(conditioning.sequence, expected)
    torch.testing.assert_close(conditioning.pooled, expected.mean(1))
    assert conditioning.mask is None
    assert conditioning.dropped.tolist() == [False] * 4


def test_semantic_conditioning_has_the_paper_s_size_and_learns():
    conditioner = SemanticConditioner()
    assert sum(p.numel() for p in conditioner.parameters()) == 1024 * 768 + 2 * (768 * 768 + 768) + 768
    conditioner.embed(torch.zeros(1, 1, 3, dtype=torch.long)).pooled.sum().backward()
    assert all(parameter.grad is not None for parameter in conditioner.parameters())


def test_text_conditioning_is_the_caption_s_embedding():
    embedding = SpectrumEmbedding()
    batch = music_batch(audio_embedding=torch.zeros(4, 16))
    conditioner = TextConditioner(embedding, width=16)
    source = conditioner.describe(batch)
    assert not source.requires_grad
    torch.testing.assert_close(source, embedding.embed_text(batch.captions).detach())
    conditioning = conditioner.embed(source)
    assert conditioning.pooled is source
    assert conditioning.sequence is None
    assert conditioning.dropped.tolist() == [False] * 4
    assert not conditioner.uses_audio


def test_audio_can_take_the_captions_place():
    embedding = SpectrumEmbedding()
    conditioner = TextConditioner(embedding, width=16, source="audio")
    batch = music_batch()
    torch.testing.assert_close(conditioner.describe(batch), embedding.embed_audio(batch.waveform).detach())
    cached = torch.randn(4, 16)
    assert torch.equal(conditioner.describe(music_batch(audio_embedding=cached)), cached)
    assert conditioner.uses_audio


def test_what_was_exported_without_its_parts_embeds_but_does_not_describe():
    with pytest.raises(ValueError, match="without its tokenizer"):
        SemanticConditioner(None, 8, 12).describe(music_batch())
    with pytest.raises(ValueError, match="without its joint embedding"):
        TextConditioner(None, 16).describe(music_batch())
    assert SemanticConditioner(None, 8, 12).embed(torch.zeros(2, 1, 5, dtype=torch.long)).sequence.shape == (2, 5, 12)


def test_parts_that_do_not_fit_are_refused_with_both_numbers(tokenizer):
    with pytest.raises(ValueError, match=r"1 codebooks of 8 codes.*1 of 16"):
        SemanticConditioner(tokenizer, codebook_size=16)
    with pytest.raises(ValueError, match="12 codebooks of 1024"):
        SemanticConditioner(ResidualKMeans())
    with pytest.raises(ValueError, match=r"width 128 .* 16"):
        TextConditioner(SpectrumEmbedding(16))
    with pytest.raises(ValueError, match="width 3 given, but this conditioner takes 16"):
        TextConditioner(width=16).embed(torch.zeros(1, 3))


def test_presets_parse_into_the_arguments_of_their_classes():
    import inspect

    import yaml

    from melody_cm.storage import find_class

    configs = Path(__file__).resolve().parents[2] / "configs"
    presets = [
        path for slot in ("joint_embedding", "tokenizer", "conditioner") for path in (configs / slot).glob("*.yaml")
    ]
    assert len(presets) >= 5
    for path in presets:
        preset = yaml.safe_load(path.read_text())
        parameters = inspect.signature(find_class(preset["class_path"])).parameters
        assert set(preset["init_args"]) == set(parameters), path.name


def test_music_without_a_caption_is_unconditional():
    towers = TwoLetters()
    mask = torch.ones(3, 4, dtype=torch.bool)
    batch = MusicBatch(torch.arange(3), torch.zeros(3, dtype=torch.long), None, mask, ["b", " ", "a"])
    conditioner = TextConditioner(towers, width=2)
    source = conditioner.describe(batch)
    torch.testing.assert_close(source, torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    assert conditioner.embed(source).dropped.tolist() == [False, True, False]
    batch.captions = ["", "", ""]
    assert conditioner.embed(conditioner.describe(batch)).dropped.all()
    batch.captions = ["a", "b", "b"]
    assert not conditioner.embed(conditioner.describe(batch)).dropped.any()


class TwoLetters(JointEmbedding):
    """Knows "a" and "b"."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.window_seconds, self.width = 8000, 1.0, 2
        self.rows = torch.nn.Parameter(torch.eye(2), requires_grad=False)

    def embed_audio(self, waveform):
        raise NotImplementedError

    def embed_text(self, texts):
        assert all(text.strip() for text in texts)
        return self.rows[[ord(text) - ord("a") for text in texts]]
