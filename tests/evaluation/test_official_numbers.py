"""The one public fixture of VGGish distances, sines with noise; needs the public weights from the network."""

import numpy as np
import pytest
import torch

from melody_cm.evaluation import frechet_distance
from melody_cm.evaluation.embeddings import VGGishEmbedding
from melody_cm.evaluation.embeddings.vggish import URL

SAMPLE_RATE = 16000


def sines(count, noise, rng):
    """Six seconds of sines of 100 to 1000 Hz, quantized to 16 bits, with relative Gaussian noise."""
    time = np.linspace(0, 6, 6 * SAMPLE_RATE)
    waves = [np.sin(2 * np.pi * frequency * time) for frequency in np.linspace(100, 1000, count)]
    noisy = [wave + noise * np.abs(wave).max() * rng.normal(size=len(wave)) for wave in waves]
    # 2^15 wraps around in 16 bits, as it does in the files that the public numbers were computed from.
    steps = [(2**15 * wave).astype(np.int64).astype(np.int16) for wave in noisy]
    return torch.from_numpy(np.stack(steps) / 2**15).float()[:, None]


def test_the_fixture_is_five_or_ten_clips_of_six_seconds():
    waves = sines(5, 1e-4, np.random.default_rng(0))
    assert waves.shape == (5, 1, 96000)
    assert 0.99 < waves.abs().max() <= 1.0
    assert sines(10, 0.0, np.random.default_rng(0)).shape == (10, 1, 96000)


@pytest.mark.network
@torch.no_grad()
def test_sines_with_noise_have_the_public_distances(tmp_path):
    path = tmp_path / "vggish-10086976.pth"
    torch.hub.download_url_to_file(URL, str(path))
    embedding, rng = VGGishEmbedding(str(path)), np.random.default_rng(0)

    def gaussian(waves):
        frames = embedding(waves).flatten(0, 1).double()
        return frames.mean(0), torch.cov(frames.T)

    background = gaussian(sines(10, 0.0, rng))
    for noise, google_research, package in ((1e-4, 12.4375, 12.7398), (1e-5, 4.7680, 4.9815)):
        distance = frechet_distance(*gaussian(sines(5, noise, rng)), *background)
        assert distance == pytest.approx(google_research, abs=2.0)
        assert distance == pytest.approx(package, abs=2.0)
