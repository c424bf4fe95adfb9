from pathlib import Path

import pytest
import torch
import yaml
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from melody_cm.autoencoders import GriffinLim, HiFiGANVocoder, MelAutoencoder, with_vocoder
from melody_cm.interfaces import Autoencoder, Network, Vocoder
from melody_cm.signal import MelFrontEnd, MelSettings
from melody_cm.storage import build, load_network, load_stage, save_network, write_json
from melody_cm.storage.stages import RUN_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 80, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}
LAYERS = {
    "upsampling": [5, 4, 2, 2], "upsampling_kernels": [16, 16, 8, 4], "first_channels": 32, "residual_kernels": [3, 5],
    "residual_dilations": [1, 3],
}  # fmt: skip
VAE = {"block_out_channels": [4, 8, 8], "latent_channels": 3, "layers_per_block": 1, "norm_num_groups": 4}


def tiny(**changes) -> HiFiGANVocoder:
    return HiFiGANVocoder(**(MEL | LAYERS | changes)).eval()


def music(samples=6400, batch=4):
    time = torch.arange(samples) / 8000
    pitches = 220 * 2 ** (torch.arange(batch) / 5)
    return (0.3 * torch.sin(2 * torch.pi * pitches[:, None] * time) + 0.01 * torch.randn(batch, samples))[:, None]


@torch.no_grad()
def test_it_is_transformers_generator_cut_to_whole_frames():
    vocoder = tiny(mel_mean=-3.0, mel_std=2.0)
    config = SpeechT5HifiGanConfig(
        model_in_dim=16, sampling_rate=8000, upsample_initial_channel=32, upsample_rates=(5, 4, 2, 2),
        upsample_kernel_sizes=(16, 16, 8, 4), resblock_kernel_sizes=(3, 5), resblock_dilation_sizes=((1, 3), (1, 3)),
        normalize_before=False,
    )  # fmt: skip
    theirs = SpeechT5HifiGan(config).eval()
    theirs.load_state_dict(vocoder.model.state_dict())
    mel = MelFrontEnd(MelSettings(**MEL))(music())
    expected = theirs((mel + 3) / 2)
    assert expected.shape[1] > 6400, "an odd difference of kernel and rate leaves samples over"
    torch.testing.assert_close(vocoder(mel)[:, 0], expected[:, :6400], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 33])
def test_a_frame_is_hop_length_samples(frames):
    assert tiny()(torch.randn(2, frames, 16)).shape == (2, 1, 80 * frames)


@torch.no_grad()
def test_an_untrained_one_is_neither_silent_nor_saturated():
    waveform = tiny(first_channels=64)(MelFrontEnd(MelSettings(**MEL))(music()))
    assert 0.02 < waveform.std() < 0.9


@torch.no_grad()
def test_a_far_frame_does_not_matter():
    mel = torch.randn(1, 200, 16)
    changed = mel.clone()
    changed[:, 100:] += 1
    vocoder = tiny()
    difference = (vocoder(mel) - vocoder(changed)).abs()[0, 0]
    assert difference[: 80 * 80].max() == 0
    assert difference[80 * 95 :].max() > 0


def test_saved_and_loaded_it_gives_the_same(tmp_path):
    vocoder, mel = tiny(mel_mean=-2.0), torch.randn(1, 7, 16)
    save_network(vocoder, tmp_path / "vocoder")
    assert torch.equal(load_network(tmp_path / "vocoder")(mel), vocoder(mel))


def test_impossible_stages_are_refused():
    with pytest.raises(ValueError, match=r"\[5, 4, 2\] makes 40 samples of a frame, but hop_length is 80"):
        tiny(upsampling=[5, 4, 2], upsampling_kernels=[16, 16, 8])
    with pytest.raises(ValueError, match=r"kernels \[3, 16, 8, 4\] must be as many .* at least as long"):
        tiny(upsampling_kernels=[3, 16, 8, 4])
    with pytest.raises(ValueError, match="first_channels 24 must be a multiple of 16"):
        tiny(first_channels=24)


@pytest.mark.parametrize("name", ["hifigan", "hifigan_128"])
def test_presets_fit_the_mels_of_their_autoencoders(name):
    preset = yaml.safe_load((REPOSITORY / f"configs/vocoder/{name}.yaml").read_text())
    griffin_lim = yaml.safe_load(
        (REPOSITORY / f"configs/vocoder/{name.replace('hifigan', 'griffin_lim')}.yaml").read_text()
    )
    with torch.device("meta"):
        vocoder = build(preset)
    assert not vocoder.mel_settings.differences(build(griffin_lim).mel_settings)
    assert sum(p.numel() for p in vocoder.parameters()) == pytest.approx(55e6, rel=0.02)


def autoencoder(vocoder=None) -> MelAutoencoder:
    return MelAutoencoder(**MEL, **VAE, vocoder=vocoder or GriffinLim(**MEL, iterations=4)).eval()


@torch.no_grad()
def test_an_autoencoder_takes_another_vocoder_and_keeps_all_else():
    vocoder, first = tiny(), autoencoder()
    first.calibrate(music(3200))
    other = with_vocoder(first, vocoder)
    latent = first.encode(music(3200))
    assert torch.equal(other.encode(music(3200) * 0 + 1), first.encode(music(3200) * 0 + 1))
    assert torch.equal(other.decode_mel(latent), first.decode_mel(latent))
    assert torch.equal(other.decode(latent), vocoder(first.decode_mel(latent)).clamp(-1, 1))
    assert not other.training
    with pytest.raises(ValueError, match="num_mels: 16, 32"):
        with_vocoder(first, tiny(num_mels=32))


def finish(run, stage, slot, network: Network):
    save_network(network, run / stage / "export" / slot)
    write_json(run / stage / "finished.json", {})


@torch.no_grad()
def test_a_trained_vocoder_enters_a_trained_autoencoder_and_travels_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path))
    vocoder, trained = tiny(), autoencoder()
    finish(tmp_path, "musiccm/1_mel_vae", "autoencoder", trained)
    finish(tmp_path, "musiccm/2_vocoder", "vocoder", vocoder)
    both = with_vocoder(load_stage("musiccm/1_mel_vae", Autoencoder), load_stage("musiccm/2_vocoder", Vocoder))
    assert both.frozen
    assert not any(p.requires_grad for p in both.parameters())
    latent = trained.encode(music(3200))
    expected = vocoder(trained.decode_mel(latent)).clamp(-1, 1)
    assert torch.equal(both.decode(latent), expected)
    save_network(both, tmp_path / "saved", portable=True)
    assert torch.equal(load_network(tmp_path / "saved").decode(latent), expected)


def test_a_vocoder_of_other_mels_is_refused_when_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path))
    finish(tmp_path, "musiccm/1_mel_vae", "autoencoder", autoencoder())
    finish(tmp_path, "musiccm/2_vocoder", "vocoder", tiny(f_max=3000.0))
    with pytest.raises(ValueError, match=r"f_max: 4000\.0, 3000\.0; autoencoder first"):
        with_vocoder(load_stage("musiccm/1_mel_vae", Autoencoder), load_stage("musiccm/2_vocoder", Vocoder))


def test_an_export_whose_mels_were_changed_is_refused(tmp_path):
    save_network(autoencoder(tiny()), tmp_path / "net")
    file = tmp_path / "net/config.json"
    file.write_text(file.read_text().replace('"f_max": 4000.0', '"f_max": 3500.0', 1))
    with pytest.raises(ValueError, match=r"was made for other mels than the autoencoder .f_max"):
        load_network(tmp_path / "net")
