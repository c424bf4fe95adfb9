import math

import pytest
import torch
import torch.nn.functional as F
from encoder_toys import SAMPLE_RATE, SpectrumEmbedding, music_batch

from melody_cm.encoders import LogMelKMeans, ResidualKMeans
from melody_cm.encoders.codebooks import codebook_report


def slow_perplexity(codes: list[int]) -> float:
    shares = [codes.count(code) / len(codes) for code in set(codes)]
    return math.exp(-sum(share * math.log(share) for share in shares))


def test_levels_are_told_apart_as_a_slow_loop_tells_them():
    tokenizer = ResidualKMeans(num_codebooks=3, codebook_size=8, width=6)
    fitted, other = torch.randn(60, 6), torch.randn(25, 6) + 0.3
    tokenizer.fit(fitted, seed=0)
    report = codebook_report(tokenizer, other)
    left, variance = other.clone(), float((other - other.mean(0)).square().sum())
    for level in range(3):
        codes = [min(range(8), key=lambda c: float((row - tokenizer.centroids[level, c]).norm())) for row in left]
        left = left - tokenizer.centroids[level, codes]
        assert report["quantization_error"][level] == pytest.approx(float(left.square().sum()) / variance, rel=1e-4)
        assert report["perplexity"][level] == pytest.approx(slow_perplexity(codes), rel=1e-6)
        assert report["used"][level] == pytest.approx(len(set(codes)) / 8)


def test_one_level_is_judged_by_what_its_codes_stand_for():
    tokenizer = LogMelKMeans(SAMPLE_RATE, codebook_size=8, num_mels=20, n_fft=256)
    features = tokenizer.features(music_batch(8)).flatten(0, 1)
    tokenizer.fit(features, seed=0)
    report = codebook_report(tokenizer, features)
    left = (features - tokenizer.dequantize(tokenizer.quantize(features[None]))[0]).square().sum()
    expected = float(left / (features - features.mean(0)).square().sum())
    assert report["quantization_error"] == [pytest.approx(expected, rel=1e-5)]
    assert report["used"] == [1.0]


def test_texts_that_all_mean_the_same_use_one_entry_a_level():
    embedding = SpectrumEmbedding(6)
    tokenizer = ResidualKMeans(embedding, num_codebooks=2, codebook_size=8, width=6)
    tokenizer.fit(F.normalize(torch.randn(60, 6), dim=-1), seed=0)
    text = tokenizer.text_features(["same", "same", "same"])
    assert not text.requires_grad
    torch.testing.assert_close(text[:, 0], embedding.embed_text(["same"] * 3).detach())
    report = codebook_report(tokenizer, text[:, 0])
    assert report["perplexity"] == pytest.approx([1.0, 1.0])
    assert report["used"] == [1 / 8, 1 / 8]


def test_an_exported_tokenizer_has_no_embedding_for_texts():
    with pytest.raises(ValueError, match="without its joint embedding"):
        ResidualKMeans(num_codebooks=2, codebook_size=8, width=6).text_features(["a"])
