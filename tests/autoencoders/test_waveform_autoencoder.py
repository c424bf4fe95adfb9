from pathlib import Path

import pytest
import torch
import yaml

from melody_cm.autoencoders import WaveformAutoencoder
from melody_cm.randomness import Draws
from melody_cm.storage import build, load_network, save_network

PRESET = Path(__file__).resolve().parents[2] / "configs/autoencoder/waveform.yaml"
HOP = 12
DRAWS = Draws(0, [0] * 8, range(8))


def tiny(**changes) -> WaveformAutoencoder:
    arguments = {
        "sample_rate": 1200, "downsampling": [3, 4], "encoder_channels": [8, 12], "encoder_kernels": [7, 9],
        "decoder_channels": [12, 8], "decoder_kernels": [9, 7], "decoder_first_channels": 16, "latent_channels": 3,
        "residual_kernels": [3, 5], "residual_dilations": [1, 3],
    }  # fmt: skip
    return WaveformAutoencoder(**(arguments | changes))


def waveform(samples: int, batch: int = 8) -> torch.Tensor:
    return 0.3 * torch.randn(batch, 1, samples)


@pytest.mark.parametrize("samples", [1, 11, 12, 13, 95, 96, 97, 1000])
def test_any_length_comes_back(samples):
    autoencoder, x = tiny(), waveform(samples)
    frames = -(-samples // HOP)
    mean, std = autoencoder.posterior(x)
    assert mean.shape == std.shape == (8, 3, frames)
    assert (3, frames) == autoencoder.latent_shape(samples / 1200)
    assert autoencoder.decode(mean).shape == (8, 1, frames * HOP)
    result = autoencoder.reconstruct(x, DRAWS)
    assert result.prediction.shape == x.shape
    assert result.target is x
    assert result.kl.shape == (8,)


def test_latent_is_the_clipped_third_of_the_gaussian():
    autoencoder, x = tiny(), waveform(600)
    with torch.no_grad():
        autoencoder.encoder.output.bias[:3] = torch.tensor([0.0, 6.0, -6.0])
    gaussian = autoencoder.gaussian(x)
    mean, std = autoencoder.posterior(x)
    torch.testing.assert_close(3 * mean, gaussian.mean)
    torch.testing.assert_close(3 * std, gaussian.std)
    latent = autoencoder.encode(x)
    assert latent[:, 1].min() == 1
    assert latent[:, 2].max() == -1
    torch.testing.assert_close(3 * latent[:, 0], gaussian.mean[:, 0])


def test_calibration_scales_the_latent_to_a_third_and_changes_no_sound():
    autoencoder, x = tiny(), waveform(600)
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.posterior(x)[0] / 2)
        autoencoder.calibrate(x)
        mean, _ = autoencoder.posterior(x)
        assert float(3 * mean.std()) == pytest.approx(1, rel=1e-4)
        assert mean.abs().max() / 2 < 1, "else clipping would be heard"
        torch.testing.assert_close(autoencoder.decode(mean / 2), before, rtol=1e-3, atol=1e-5)


def test_decode_clips_its_latent_first():
    autoencoder, latent = tiny(), 3 * torch.randn(2, 3, 10)
    assert torch.equal(autoencoder.decode(latent), autoencoder.decode(latent.clamp(-1, 1)))
    assert not torch.equal(autoencoder.decode(latent / 9), autoencoder.decode(latent))
    assert autoencoder.decode(latent).abs().max() <= 1


def test_reconstruction_samples_the_posterior_with_the_given_noise():
    autoencoder, x = tiny(), waveform(120)
    with torch.no_grad():
        autoencoder.encoder.output.bias[3:] = 0.0  # a wide posterior
    gaussian = autoencoder.gaussian(x)
    sample = gaussian.mean + gaussian.std * DRAWS.normal("posterior", (3, 10))
    torch.testing.assert_close(autoencoder.reconstruct(x, DRAWS).prediction, autoencoder.decode(sample / 3))


def test_gradients_reach_every_parameter_and_the_noise_does_not_hide_the_encoder():
    autoencoder, x = tiny(), waveform(120)
    result = autoencoder.reconstruct(x, DRAWS)
    (result.prediction - x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in autoencoder.parameters())
    assert all(p.grad.abs().sum() > 0 for p in autoencoder.encoder.parameters())


def test_a_clip_does_not_depend_on_its_batch():
    autoencoder, x = tiny(), waveform(130)
    whole = autoencoder.reconstruct(x, DRAWS)
    alone = autoencoder.reconstruct(x[5:6], Draws(0, [0], [5]))
    torch.testing.assert_close(alone.prediction, whole.prediction[5:6], atol=1e-4, rtol=0)
    torch.testing.assert_close(alone.kl, whole.kl[5:6], atol=1e-4, rtol=1e-4)


def test_learns_a_tone_in_a_few_steps():
    autoencoder = tiny()
    x = 0.3 * torch.sin(torch.arange(480) / 12 * (1 + torch.arange(8) / 16)[:, None])[:, None]
    optimizer = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    errors = []
    for _ in range(80):
        result = autoencoder.reconstruct(x, DRAWS)
        errors.append((result.prediction - x).abs().mean())
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < 0.5 * x.abs().mean(), "better than half of what silence costs"


def test_saved_and_loaded(tmp_path):
    autoencoder, x = tiny(), waveform(120, 1)
    save_network(autoencoder, tmp_path / "net")
    assert torch.equal(load_network(tmp_path / "net").encode(x), autoencoder.encode(x))


def test_unlike_lists_are_refused():
    with pytest.raises(ValueError, match=r"decoder_kernels \[9\] has 1 entries but downsampling \[3, 4\] has 2"):
        tiny(decoder_kernels=[9])


def test_paper_size():
    with torch.device("meta"):
        autoencoder = build(yaml.safe_load(PRESET.read_text()))
    encoder, decoder = (
        sum(p.numel() for p in part.parameters()) for part in (autoencoder.encoder, autoencoder.decoder)
    )
    print(f"encoder {encoder / 1e6:.1f} M, decoder {decoder / 1e6:.1f} M")
    assert decoder == pytest.approx(60.1e6, rel=0.01)
    assert encoder == pytest.approx(11.4e6, rel=0.01)
    assert autoencoder.latent_shape(10.0) == (16, 2500)
