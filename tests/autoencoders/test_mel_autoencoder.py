from pathlib import Path

import pytest
import torch

from melody_cm.autoencoders import GriffinLim, MelAutoencoder
from melody_cm.configuration import load_config
from melody_cm.randomness import Draws
from melody_cm.signal import MelFrontEnd, MelSettings
from melody_cm.storage import build, load_network, save_network

PRESETS = Path(__file__).resolve().parents[2] / "configs/autoencoder"
MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 80, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}
DRAWS = Draws(0, [0] * 8, range(8))


def tiny(**changes) -> MelAutoencoder:
    arguments = {
        "block_out_channels": [4, 8, 8], "latent_channels": 3, "layers_per_block": 1, "norm_num_groups": 4,
        "vocoder": GriffinLim(**MEL, iterations=4),
    }  # fmt: skip
    return MelAutoencoder(**(MEL | arguments | changes)).eval()


def music(samples: int, batch: int = 8) -> torch.Tensor:
    time = torch.arange(samples) / 8000
    pitches = torch.tensor([220.0, 660.0]) * (1 + torch.arange(batch)[:, None] / 12)
    tones = torch.sin(2 * torch.pi * pitches[..., None] * time).sum(1) * torch.exp(-2 * time)
    return (0.2 * tones + 0.01 * torch.randn(batch, samples))[:, None]


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (320, 1), (321, 2), (3200, 10), (3201, 11)])
def test_shapes_and_lengths(samples, frames):
    autoencoder, x = tiny(), music(samples)
    mean, std = autoencoder.posterior(x)
    assert mean.shape == std.shape == (8, 3, frames, 4)
    assert autoencoder.latent_shape(samples / 8000) == (3, frames, 4)
    assert autoencoder.decode(mean).shape == (8, 1, frames * 320)
    result = autoencoder.reconstruct(x, DRAWS)
    assert result.prediction.shape == result.target.shape == (8, -(-samples // 80), 16)
    assert result.kl.shape == (8,)


def test_target_is_the_log_mel_at_its_own_level():
    x = music(3200)
    expected = MelFrontEnd(MelSettings(**MEL))(x)
    torch.testing.assert_close(tiny().reconstruct(x, DRAWS).target, expected)
    assert (tiny().encode(x) - tiny().encode(x / 4)).abs().max() > 0


def test_calibration_gives_zero_mean_and_unit_std_and_does_not_change_what_is_decoded():
    autoencoder, x = tiny(), music(3200)
    before = autoencoder.decode_mel(autoencoder.encode(x))
    assert abs(autoencoder.encode(x).std().item() - 1) > 0.05
    autoencoder.calibrate(x)
    latent = autoencoder.encode(x)
    assert latent.std().item() == pytest.approx(1, abs=1e-4)
    assert latent.mean().item() == pytest.approx(0, abs=1e-4)
    torch.testing.assert_close(autoencoder.decode_mel(latent), before, atol=1e-3, rtol=1e-3)
    raw_std = autoencoder.posterior(x)[1] / autoencoder.latent_scale
    autoencoder.latent_scale.fill_(1.0)
    torch.testing.assert_close(autoencoder.posterior(x)[1], raw_std)


def test_calibration_is_saved_with_the_weights(tmp_path):
    autoencoder, x = tiny(), music(3200)
    autoencoder.calibrate(x)
    save_network(autoencoder, tmp_path / "net")
    again = load_network(tmp_path / "net")
    assert torch.equal(again.encode(x), autoencoder.encode(x))
    assert again.vocoder.iterations == 4


def test_reconstruction_samples_the_posterior_with_the_given_noise_and_ignores_the_calibration():
    autoencoder, x = tiny(), music(3200)
    mean, std = autoencoder.posterior(x)
    sample = mean + std * DRAWS.normal("posterior", mean.shape[1:])
    prediction = autoencoder.reconstruct(x, DRAWS).prediction
    torch.testing.assert_close(prediction, autoencoder.decode_mel(sample), atol=1e-4, rtol=1e-4)
    autoencoder.calibrate(x)
    torch.testing.assert_close(autoencoder.reconstruct(x, DRAWS).prediction, prediction)


def test_gradients_reach_every_parameter():
    autoencoder, x = tiny(), music(3200)
    result = autoencoder.reconstruct(x, DRAWS)
    (result.prediction - result.target).abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in autoencoder.parameters())
    assert sum(p.grad.abs().sum() for p in autoencoder.vae.encoder.parameters()) > 0


def test_a_clip_does_not_depend_on_its_batch_and_decoding_is_deterministic():
    autoencoder, x = tiny(), music(3200)
    latent = autoencoder.encode(x)
    together = autoencoder.decode(latent)
    torch.manual_seed(7)
    assert torch.equal(autoencoder.decode(latent), together)
    torch.testing.assert_close(autoencoder.encode(x[5:6]), latent[5:6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(autoencoder.decode(latent[5:6]), together[5:6], atol=1e-4, rtol=0)


def test_mel_to_waveform_to_mel_through_the_vocoder():
    mel = MelFrontEnd(MelSettings(**MEL))(music(6400))
    again = MelFrontEnd(MelSettings(**MEL))(GriffinLim(**MEL, iterations=32)(mel))
    assert (again - mel).abs().mean() < 0.25


def test_waveforms_stay_within_full_scale():
    autoencoder = tiny(mel_mean=5.0)
    waveform = autoencoder.decode(autoencoder.encode(music(3200)))
    assert waveform.abs().max() == 1


def test_a_vocoder_of_other_mels_is_refused_with_both_values():
    with pytest.raises(ValueError, match=r"num_mels: 16, 32; f_max: 4000\.0, 3000\.0; autoencoder first"):
        tiny(vocoder=GriffinLim(**(MEL | {"num_mels": 32, "f_max": 3000.0})))


def test_impossible_geometries_are_refused():
    with pytest.raises(ValueError, match="num_mels 16 must be a multiple of 32 for 6 blocks"):
        tiny(block_out_channels=[4] * 6)
    with pytest.raises(ValueError, match="norm_num_groups 3 must divide the width 4"):
        tiny(norm_num_groups=3)


@pytest.mark.parametrize(("name", "shape"), [("mel_checkpoint", (8, 256, 16)), ("mel_text", (16, 128, 16))])
def test_presets_have_the_published_geometry(name, shape):
    config = load_config(PRESETS / f"{name}.yaml")
    config["init_args"] |= {"block_out_channels": [4 for _ in config["init_args"]["block_out_channels"]]}
    config["init_args"] |= {"norm_num_groups": 2}
    autoencoder = build(config)
    assert autoencoder.latent_shape(10.24) == shape
    assert autoencoder.encode(torch.zeros(1, 1, 16384)).shape[1:] == (shape[0], shape[1] // 10 + 1, shape[2])
