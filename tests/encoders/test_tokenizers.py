import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoder_toys import SAMPLE_RATE, SpectrumEmbedding, music_batch

from melody_cm.encoders import LogMelKMeans, ResidualKMeans, SemanticKMeans
from melody_cm.storage import load_network, save_network


def log_mel_kmeans(codebook_size: int = 16) -> LogMelKMeans:
    return LogMelKMeans(SAMPLE_RATE, 25.0, codebook_size, num_mels=20, n_fft=256)


def residual_kmeans(**arguments) -> ResidualKMeans:
    return ResidualKMeans(**{"num_codebooks": 3, "codebook_size": 8, "width": 16, **arguments})


def unit_vectors(count: int, width: int = 16) -> torch.Tensor:
    return F.normalize(torch.randn(count, width) + 0.5, dim=-1)


@pytest.mark.parametrize(("samples", "frames"), [(SAMPLE_RATE, 25), (int(2.56 * SAMPLE_RATE), 64), (321, 2), (320, 1)])
def test_there_are_exactly_25_frames_a_second_and_the_last_one_is_whole(samples, frames):
    assert log_mel_kmeans().features(music_batch(2, samples)).shape == (2, frames, 20)


def test_features_are_librosa_s_log_mels_averaged_to_the_frame_rate():
    batch = music_batch(1)
    mel = librosa.feature.melspectrogram(
        y=batch.waveform[0, 0].numpy(),
        sr=SAMPLE_RATE,
        n_fft=256,
        hop_length=80,
        n_mels=20,
        power=1.0,
        pad_mode="reflect",
    )
    expected = np.log(np.maximum(mel[:, :100], 1e-5)).reshape(20, 25, 4).mean(2).T
    np.testing.assert_allclose(log_mel_kmeans().features(batch)[0], expected, atol=1e-3)


def test_codes_are_those_of_the_nearest_normalized_centroid():
    tokenizer = log_mel_kmeans()
    features = tokenizer.features(music_batch(8)) * torch.linspace(0.1, 3, 20) + 5
    tokenizer.fit(features.flatten(0, 1), seed=0)
    codes = tokenizer.quantize(features)
    assert codes.shape == (8, 1, 25)
    mean, std = features.flatten(0, 1).mean(0), features.flatten(0, 1).std(0)
    centroids = tokenizer.dequantize(torch.arange(16)[None, None])[0]
    distances = torch.cdist((features.flatten(0, 1) - mean) / std, (centroids - mean) / std)
    assert torch.equal(codes.flatten(), distances.argmin(1))
    left = (tokenizer.dequantize(codes) - features).square().sum((0, 1)) / (features - mean).square().sum((0, 1))
    assert bool((left < 1).all())
    assert codes.unique().numel() == 16


@pytest.mark.parametrize("make", [log_mel_kmeans, residual_kmeans])
def test_a_tokenizer_without_codebooks_says_so(make):
    with pytest.raises(ValueError, match="KMeans has no codebooks yet; call fit"):
        make().quantize(torch.randn(1, 2, 20 if make is log_mel_kmeans else 16))
    with pytest.raises(ValueError, match="no codebooks yet"):
        make().dequantize(torch.zeros(1, make().num_codebooks, 1, dtype=torch.long))


@pytest.mark.parametrize("make", [log_mel_kmeans, residual_kmeans])
def test_too_few_vectors_are_refused_with_both_numbers(make):
    with pytest.raises(ValueError, match=r"5 feature vectors .* codebook of (8|16)"):
        make().fit(torch.randn(5, 20 if make is log_mel_kmeans else 16), seed=0)


@pytest.mark.parametrize("make", [log_mel_kmeans, residual_kmeans])
def test_a_fitted_tokenizer_comes_back_from_disk_and_the_seed_alone_decides(make, tmp_path):
    features = torch.randn(200, 20 if make is log_mel_kmeans else 16)
    tokenizer, again, other = make(), make(), make()
    tokenizer.fit(features, seed=1)
    again.fit(features, seed=1)
    other.fit(features, seed=2)
    codes = tokenizer.quantize(features[None])
    assert torch.equal(codes, again.quantize(features[None]))
    assert not torch.equal(codes, other.quantize(features[None]))
    save_network(tokenizer, tmp_path / "tokenizer")
    assert torch.equal(load_network(tmp_path / "tokenizer").quantize(features[None]), codes)


def test_an_export_holds_the_same_names_for_both_kinds_of_semantic_tokens():
    names = set(log_mel_kmeans().state_dict()) - {f"mel.{name}" for name in log_mel_kmeans().mel.state_dict()}
    semantic = SemanticKMeans(codebook_size=16, width=20)
    assert names == set(semantic.state_dict()) == {"mean", "std", "centroids", "fitted"}


def test_a_rate_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"22050 Hz is no whole multiple of .* 100 Hz"):
        LogMelKMeans(22050)


def test_residual_codes_are_those_of_a_slow_search():
    tokenizer = residual_kmeans()
    vectors = unit_vectors(100)
    tokenizer.fit(vectors, seed=0)
    codes = tokenizer.quantize(vectors.view(4, 25, 16))
    assert codes.shape == (4, 3, 25)
    for row in range(0, 100, 9):
        residual = vectors[row]
        for level in range(3):
            code = int((tokenizer.centroids[level] - residual).norm(dim=1).argmin())
            assert int(codes[row // 25, level, row % 25]) == code
            residual = residual - tokenizer.centroids[level, code]
        restored = tokenizer.dequantize(codes)[row // 25, row % 25]
        torch.testing.assert_close(vectors[row] - restored, residual, atol=1e-5, rtol=1e-4)


def test_every_level_leaves_less_than_the_one_before():
    tokenizer = residual_kmeans(num_codebooks=6)
    vectors = unit_vectors(120)
    tokenizer.fit(vectors, seed=0)
    errors = tokenizer.quantization_error(vectors)
    assert len(errors) == 6
    assert all(later < earlier for earlier, later in zip([1.0, *errors], errors, strict=False))
    restored = tokenizer.dequantize(tokenizer.quantize(vectors[None]))[0]
    left = (vectors - restored).square().sum() / (vectors - vectors.mean(0)).square().sum()
    assert errors[-1] == pytest.approx(float(left), rel=1e-4)


def test_features_are_the_audio_s_embedding_without_gradient_or_the_cached_one():
    embedding = SpectrumEmbedding()
    tokenizer = residual_kmeans(embedding=embedding)
    batch = music_batch()
    features = tokenizer.features(batch)
    assert features.shape == (4, 1, 16)
    assert not features.requires_grad
    torch.testing.assert_close(features[:, 0], embedding.embed_audio(batch.waveform).detach())
    cached = unit_vectors(4)
    assert torch.equal(tokenizer.features(music_batch(audio_embedding=cached))[:, 0], cached)


def test_texts_are_quantized_with_the_codebooks_of_audio_even_without_the_embedding():
    tokenizer = residual_kmeans()
    tokenizer.fit(unit_vectors(50), seed=0)
    text = SpectrumEmbedding().embed_text(["slow piano", "fast drums"]).detach()
    codes = tokenizer.quantize(text[:, None])
    assert codes.shape == (2, 3, 1)
    assert not torch.equal(codes[0], codes[1])
    with pytest.raises(ValueError, match="without its joint embedding"):
        tokenizer.features(music_batch())


def test_an_embedding_of_another_width_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"width 16 .* 12"):
        residual_kmeans(embedding=SpectrumEmbedding(12))
