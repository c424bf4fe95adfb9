"""A folder in the layout of the public MusicLDM, loaded here and by diffusers, says the same."""

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from musicldm_folder import PUBLISHED, TINY, write_musicldm, write_unet
from transformers import AutoTokenizer, ClapModel, ClapTextModelWithProjection, SpeechT5HifiGan

from melody_cm.autoencoders import musicldm_autoencoder, musicldm_vocoder
from melody_cm.denoisers import musicldm_teacher
from melody_cm.diffusion import ConsistencyFunction, DDIMSampler, Guided, ScaledLinearBetaAngles
from melody_cm.encoders import TextConditioner, musicldm_text
from melody_cm.pipelines import MusicCM
from melody_cm.storage import hash_weights, load_network, save_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_musicldm(tmp_path_factory.mktemp("musicldm"))


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def diffusers_latents(folder, texts, noise, num_steps, guidance_scale):
    """MusicLDM's own loop, of diffusers' parts alone."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    model = ClapTextModelWithProjection.from_pretrained(folder, subfolder="text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, subfolder="tokenizer")
    tokens = tokenizer([""] * len(texts) + texts, padding="longest", return_tensors="pt")
    vectors = model(tokens["input_ids"], tokens["attention_mask"]).text_embeds
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    scheduler.set_timesteps(num_steps)
    latents = noise
    for timestep in scheduler.timesteps:
        both = unet(torch.cat([latents] * 2), timestep, encoder_hidden_states=None, class_labels=vectors).sample
        without, told = both.chunk(2)
        latents = scheduler.step(without + guidance_scale * (told - without), timestep, latents).prev_sample
    return latents


def our_latents(folder, texts, noise, num_steps, guidance_scale):
    text = musicldm_text(str(folder))
    conditioning = TextConditioner(text, width=text.width).embed(text.embed_text(texts))
    angles = ScaledLinearBetaAngles(spacing="leading", final_zero=False).angles(num_steps)
    denoiser = Guided(musicldm_teacher(str(folder)), guidance_scale)
    return DDIMSampler().sample(denoiser, noise, conditioning, angles, [])


@pytest.mark.parametrize("num_steps", [2, 4, pytest.param(50, marks=pytest.mark.slow)])
def test_our_ddim_gives_the_latents_of_diffusers_unet_and_scheduler(folder, num_steps):
    noise, texts = torch.randn(2, 4, 8, 16), ["calm piano", "drums"]
    expected = diffusers_latents(folder, texts, noise, num_steps, 2.0)
    assert relative_error(our_latents(folder, texts, noise, num_steps, 2.0), expected) < 1e-4
    assert relative_error(our_latents(folder, texts[::-1], noise, num_steps, 2.0), expected) > 1e-2


@pytest.mark.slow
def test_the_published_sizes_too(tmp_path):
    write_musicldm(tmp_path, PUBLISHED)
    noise, texts = torch.randn(1, 8, 32, 16), ["calm piano"]
    expected = diffusers_latents(tmp_path, texts, noise, 3, 2.0)
    assert relative_error(our_latents(tmp_path, texts, noise, 3, 2.0), expected) < 1e-4
    teacher = musicldm_teacher(str(tmp_path))
    assert sum(p.numel() for p in teacher.network.unet.parameters()) == pytest.approx(185e6, rel=0.01)
    autoencoder = musicldm_autoencoder(str(tmp_path))
    assert autoencoder.latent_shape(10.24) == (8, 256, 16)
    assert autoencoder.decode(torch.randn(1, 8, 4, 16)).shape == (1, 1, 2560)


@torch.no_grad()
def test_the_autoencoder_is_diffusers_vae_behind_transformers_vocoder(folder):
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    vocoder = SpeechT5HifiGan.from_pretrained(folder, subfolder="vocoder").eval()
    autoencoder = musicldm_autoencoder(str(folder))
    latent = torch.randn(2, 4, 6, 16)
    mel = vae.decode(latent / vae.config.scaling_factor).sample[:, 0]
    torch.testing.assert_close(autoencoder.decode_mel(latent), mel, atol=1e-5, rtol=1e-4)
    expected = vocoder(mel)[:, None, : 24 * 160]
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(autoencoder.decode(latent), expected, atol=1e-5, rtol=1e-4)
    waveform = 0.1 * torch.randn(1, 1, 3840)
    image = autoencoder.mel(waveform)[:, None]
    expected = vae.encode(image).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(autoencoder.encode(waveform), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_vocoder_with_a_normalization_of_its_own_keeps_it(folder, tmp_path):
    vocoder = SpeechT5HifiGan.from_pretrained(folder, subfolder="vocoder").eval()
    mel = torch.randn(1, 5, 64)
    plain = vocoder(mel)[..., :800]
    vocoder.mean.fill_(3.0)
    vocoder.scale.fill_(2.0)
    for normalize in (False, True):
        vocoder.config.normalize_before = normalize
        vocoder.save_pretrained(tmp_path / "vocoder")
        found = musicldm_vocoder(str(tmp_path))(mel)[:, 0]
        expected = vocoder(mel)[..., :800]
        assert torch.equal(expected, plain) is not normalize
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_vocoder_of_another_slope_is_refused_not_bent(folder, tmp_path):
    vocoder = SpeechT5HifiGan.from_pretrained(folder, subfolder="vocoder")
    vocoder.config.leaky_relu_slope = 0.2
    vocoder.save_pretrained(tmp_path / "vocoder")
    with pytest.raises(ValueError, match=r"leaky_relu_slope 0\.2, but only 0\.1 is supported"):
        musicldm_vocoder(str(tmp_path))


@torch.no_grad()
def test_dropped_clips_are_given_claps_vector_of_the_empty_text(folder):
    text, teacher = musicldm_text(str(folder)), musicldm_teacher(str(folder))
    conditioner = TextConditioner(text, width=16)
    noisy, angle = torch.randn(2, 4, 8, 16), torch.full((2,), 0.7)
    piano = conditioner.embed(text.embed_text(["piano", "drums"]))
    empty = conditioner.embed(text.embed_text(["", ""]))
    dropped = teacher(noisy, angle, piano.drop(torch.tensor([True, True])))
    torch.testing.assert_close(dropped, teacher(noisy, angle, empty), atol=1e-5, rtol=1e-4)
    assert relative_error(dropped, teacher(noisy, angle, piano)) > 1e-4


@torch.no_grad()
def test_a_whole_clap_serves_as_text_encoder_as_in_the_release(tmp_path):
    write_musicldm(tmp_path, whole_clap=True)
    clap = ClapModel.from_pretrained(tmp_path, subfolder="text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, subfolder="tokenizer")
    tokens = tokenizer(["piano", "", "a" * 100], padding="max_length", max_length=22, truncation=True)
    expected = clap.get_text_features(torch.tensor(tokens["input_ids"]), torch.tensor(tokens["attention_mask"]))
    found = musicldm_text(str(tmp_path)).embed_text(["piano", "", "a" * 100])
    torch.testing.assert_close(found, expected.pooler_output, atol=1e-5, rtol=1e-4)


def test_the_text_encoder_refuses_audio_and_takes_any_text(folder):
    text = musicldm_text(str(folder))
    assert text.embed_text(["\ud800 \u266b"]).isfinite().all()
    with pytest.raises(ValueError, match=r"cannot embed audio.*source: text"):
        text.embed_audio(torch.zeros(1, 1, 48000))


def test_unlike_embedding_sizes_are_refused_with_both(folder, tmp_path):
    teacher = musicldm_teacher(str(folder))
    wide = TextConditioner(width=24).embed(torch.randn(2, 24))
    with pytest.raises(ValueError, match=r"\(2, 24\), but this network needs \(2, 16\)"):
        teacher(torch.randn(2, 4, 8, 16), torch.full((2,), 0.7), wide)
    with pytest.raises(ValueError, match="width 24 must be the joint embedding's own, 16"):
        TextConditioner(musicldm_text(str(folder)), width=24)
    write_musicldm(tmp_path)
    write_unet(tmp_path / "unet", **TINY["unet"] | {"width": 24})
    with pytest.raises(ValueError, match="text encoder gives vectors of width 16, its U-Net takes 24"):
        musicldm_teacher(str(tmp_path))


def test_a_noise_predicting_teacher_refuses_zero_terminal_snr(folder):
    angle = ScaledLinearBetaAngles(zero_terminal_snr=True).angles(4)[:1].float()
    with pytest.raises(ValueError, match=r"angle 1\.5708 is beyond 1\.5589"):
        musicldm_teacher(str(folder))(
            torch.randn(1, 4, 8, 16), angle, TextConditioner(width=16).embed(torch.randn(1, 16))
        )


@pytest.mark.parametrize("part", [musicldm_teacher, musicldm_autoencoder, musicldm_vocoder, musicldm_text])
def test_public_parts_are_frozen_and_travel_without_their_folder(folder, tmp_path, part):
    public = part(str(folder))
    assert public.frozen
    assert not torch.nn.ModuleList([public]).state_dict()
    assert not any(p.requires_grad for p in public.parameters())
    assert not public.train().training
    save_network(public, tmp_path / "net", portable=True)
    assert str(folder) not in (tmp_path / "net/config.json").read_text()
    assert hash_weights(load_network(tmp_path / "net")) == hash_weights(public)


def test_the_teacher_makes_music_as_a_pipeline_and_the_pipeline_travels(folder, tmp_path):
    source = str(folder)
    pipeline = MusicCM(
        musicldm_text(source), TextConditioner(width=16), musicldm_teacher(source), musicldm_autoencoder(source),
        ScaledLinearBetaAngles(spacing="leading", final_zero=False), DDIMSampler(), max_seconds=0.32, num_steps=3,
        guidance_scale=2.0, guidance_embedded=False,
    )  # fmt: skip
    made = pipeline.generate(["calm piano"], 0.32).waveform
    pipeline.save_pretrained(tmp_path / "saved")
    again = MusicCM.from_pretrained(tmp_path / "saved").generate(["calm piano"], 0.32).waveform
    assert torch.equal(made, again)


@torch.no_grad()
def test_consistency_function_of_the_teacher_is_the_identity_at_angle_zero(folder):
    teacher, noisy = musicldm_teacher(str(folder)), torch.randn(1, 4, 8, 16)
    told = TextConditioner(width=16).embed(torch.randn(1, 16))
    assert torch.equal(ConsistencyFunction(teacher)(noisy, torch.zeros(1), told), noisy)


def test_what_is_no_musicldm_is_refused_in_one_line(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        musicldm_teacher("nowhere")
    with pytest.raises(FileNotFoundError, match="has no subfolder unet"):
        musicldm_teacher(str(tmp_path))
    (tmp_path / "vocoder").mkdir()
    with pytest.raises(ValueError, match="gives no SpeechT5HifiGan in vocoder"):
        musicldm_vocoder(str(tmp_path))
    config = UNet2DConditionModel.load_config(folder, subfolder="unet") | {"class_embed_type": None}
    UNet2DConditionModel.from_config(config).save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="class_embed_type None"):
        musicldm_teacher(str(tmp_path))


def test_a_relative_path_into_a_folder_that_exists_never_asks_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for load in (musicldm_teacher, MusicCM.from_pretrained):
        with pytest.raises(FileNotFoundError, match="there is no folder models/nowhere") as caught:
            load("models/nowhere")
        assert caught.value.__cause__ is None


def test_a_folder_in_the_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert hash_weights(musicldm_teacher(f"~/{folder.name}")) == hash_weights(musicldm_teacher(str(folder)))


def test_missing_weights_are_refused_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    write_musicldm(tmp_path)
    file = tmp_path / "vocoder/model.safetensors"
    weights = load_file(file)
    del weights["conv_post.bias"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"no complete SpeechT5HifiGan: 1 weights are missing, the first conv_post\.bias"
    ):
        musicldm_vocoder(str(tmp_path))
