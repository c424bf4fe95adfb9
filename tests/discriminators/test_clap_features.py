"""CLAP as a feature network, from a tiny folder of the layout of the public ones."""

import pytest
import torch
from public_folders import CLAP_RATE, write_clap
from transformers import ClapModel, ClapProcessor

from melody_cm.autoencoders import GriffinLim, MelAutoencoder
from melody_cm.discriminators import ClapFeatures, FeatureDiscriminator
from melody_cm.interfaces import Autoencoder, Conditioning, DiscriminatorContext
from melody_cm.randomness import Draws

MEL = {"sample_rate": 16000, "n_fft": 512, "hop_length": 160, "num_mels": 64, "f_min": 0.0, "f_max": 8000.0}


def autoencoder():
    vocoder = GriffinLim(**MEL, iterations=1)
    sizes = {"block_out_channels": [8, 16], "latent_channels": 2, "layers_per_block": 1, "norm_num_groups": 4}
    return MelAutoencoder(vocoder, **MEL, **sizes).requires_grad_(False)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "fused"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("clap") / "folder"
    write_clap(path, fusion=request.param)
    return path


def tones(rate):
    """The same chord and noise-free swell at any rate, one second."""
    t = torch.arange(rate) / rate
    pitches = torch.tensor([200.0, 450.0, 1100.0, 2500.0, 5000.0])
    return (0.05 * (1 + t) * torch.sin(2 * torch.pi * pitches[:, None] * t)).sum(0)


def test_the_mel_is_near_what_claps_own_front_end_makes_of_the_sound(folder):
    features, vae = ClapFeatures(str(folder), autoencoder()), autoencoder()
    ours = features.clap_mel(vae.mel(tones(16000)[None, None]))[0]
    extractor = ClapProcessor.from_pretrained(folder).feature_extractor
    kind = "fusion" if features.fused else "rand_trunc"
    theirs = extractor(tones(CLAP_RATE).numpy(), sampling_rate=CLAP_RATE, truncation=kind, return_tensors="pt")
    theirs = theirs["input_features"][0, 0].float()
    assert ours.shape == theirs.shape
    heard = theirs[2:-2] > theirs.max() - 40
    assert heard.sum() > 100
    assert (ours[2:-2] - theirs[2:-2])[heard].abs().mean() < 5  # dB: a mel smears pure tones over its bins.


def test_the_features_are_the_hidden_states_of_the_tower(folder):
    features = ClapFeatures(str(folder), autoencoder())
    latent = torch.randn(2, 2, 50, 32)
    model = ClapModel.from_pretrained(folder).eval().audio_model.audio_encoder
    seen = []
    model.patch_embed.register_forward_hook(lambda module, args, output: seen.append(output))
    for stage in model.layers:
        stage.register_forward_hook(lambda module, args, output: seen.append(output[1]))
    mel = features.clap_mel(features.autoencoder.decode_mel(latent))
    channels = 4 if features.fused else 1
    model(mel[:, None].expand(-1, channels, -1, -1), is_longer=torch.zeros(2, 1, dtype=torch.bool))
    conditioning = Conditioning(None, torch.randn(2, 5), None, torch.zeros(2, dtype=torch.bool))
    found = features.features(latent, torch.zeros(2), conditioning)
    assert [each.shape[1] for each in found] == features.feature_channels
    for ours, theirs in zip(found, seen, strict=True):
        torch.testing.assert_close(ours, theirs.transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_a_discriminator_hears_clean_latents_through_it_and_gradients_come_back(folder):
    features = ClapFeatures(str(folder), autoencoder())
    judge = FeatureDiscriminator(features, None, condition_width=5, width=8)
    real, fake = torch.randn(2, 2, 50, 32), torch.randn(2, 2, 50, 32, requires_grad=True)
    conditioning = Conditioning(None, torch.randn(2, 5), None, torch.zeros(2, dtype=torch.bool))
    told = DiscriminatorContext(conditioning, real, torch.zeros(2, dtype=torch.bool), Draws(0, [0, 0], [0, 1]))
    outputs = judge(fake, told)
    clean = features.features(fake, torch.zeros(2), conditioning)
    torch.testing.assert_close(outputs[1].feature_maps[0], clean[1])
    sum(output.logits.mean() for output in outputs).backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None for p in features.parameters())
    assert not any("features" in name for name in judge.state_dict())


def test_what_cannot_be_heard_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ClapFeatures(str(tmp_path / "nothing"), autoencoder())

    class Plain(Autoencoder):
        def posterior(self, waveform): ...
        def reconstruct(self, waveform, draws): ...
        def decode(self, latent): ...
        def latent_shape(self, seconds): ...

    with pytest.raises(ValueError, match="Plain decodes to no mel"):
        ClapFeatures(str(folder), Plain())
