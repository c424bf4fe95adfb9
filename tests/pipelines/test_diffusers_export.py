"""What diffusers makes of an exported student: it opens its parts and steps it to the same latents."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from safetensors import safe_open
from toy_systems import ToyJointEmbedding, toy_melody, toy_teacher

from melody_cm.autoencoders import GriffinLim, MelAutoencoder
from melody_cm.denoisers import UNet2D
from melody_cm.diffusion import (
    ConsistencySampler,
    GridAngles,
    LinearAngles,
    ScaledLinearBetaAngles,
    TimestepDenoiser,
    lcm_settings,
)
from melody_cm.encoders import TextConditioner
from melody_cm.pipelines import MusicCM
from melody_cm.storage import load_network, save_network

MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 80, "num_mels": 16, "f_min": 0.0, "f_max": 4000.0}
WIDTH = 6


def unet(**changes):
    arguments = {"condition_width": WIDTH, "channels": [16, 32], "layers_per_block": 1, "attention_levels": [1]}
    return UNet2D(**{"latent_channels": 3, "head_width": 16, **arguments, **changes})


def student(prediction="velocity"):
    torch.manual_seed(4)
    betas = ScaledLinearBetaAngles(spacing="lcm", zero_terminal_snr=prediction == "velocity")
    autoencoder = MelAutoencoder(
        GriffinLim(**MEL, iterations=2), **MEL, block_out_channels=[4, 8], latent_channels=3, layers_per_block=1,
        norm_num_groups=4,
    )  # fmt: skip
    autoencoder.latent_shift.fill_(0.25)
    autoencoder.latent_scale.fill_(1.5)
    return MusicCM(
        ToyJointEmbedding(), TextConditioner(width=WIDTH), TimestepDenoiser(unet(), betas, prediction), autoencoder,
        GridAngles(betas, 50), ConsistencySampler(), max_seconds=0.64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "saved"
    pipeline = student()
    pipeline.save_pretrained(folder)
    return folder


def test_a_saved_student_loads_back_bit_equal(saved):
    pipeline, again = student(), MusicCM.from_pretrained(saved)
    assert again.weight_hashes() == pipeline.weight_hashes()
    made = pipeline.generate(["calm piano"], 0.64, num_steps=2).waveform
    assert torch.equal(again.generate(["calm piano"], 0.64, num_steps=2).waveform, made)


@torch.no_grad()
def test_diffusers_opens_the_unet(saved):
    theirs = UNet2DConditionModel.from_pretrained(saved / "denoiser/network/unet").eval()
    ours = student().denoiser.network.unet.eval()
    latent, told = torch.randn(2, 3, 8, 8), torch.randn(2, WIDTH)
    expected = ours(latent, 300, encoder_hidden_states=None, class_labels=told).sample
    assert torch.equal(theirs(latent, 300, encoder_hidden_states=None, class_labels=told).sample, expected)


@torch.no_grad()
def test_diffusers_opens_the_vae_and_is_told_its_scale(saved):
    theirs, ours = AutoencoderKL.from_pretrained(saved / "autoencoder/vae").eval(), student().autoencoder.eval()
    latent = torch.randn(1, 3, 8, 8)
    image = theirs.decode(latent / theirs.config.scaling_factor + theirs.config.shift_factor).sample[:, 0]
    torch.testing.assert_close(image * ours.mel_std + ours.mel_mean, ours.decode_mel(latent), atol=1e-5, rtol=1e-5)
    assert (theirs.config.scaling_factor, theirs.config.shift_factor) == (1.5, 0.25)


def test_no_weight_is_stored_twice(saved):
    stored = 0
    for file in saved.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            stored += len(list(tensors.keys()))
    assert stored == sum(len(network.state_dict()) for network in student().networks.values())
    assert (saved / "denoiser/network/unet/diffusion_pytorch_model.safetensors").is_file()


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["velocity", "noise"])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 6, 8])
def test_lcm_scheduler_takes_the_students_steps(tmp_path, prediction, num_steps):
    pipeline = student(prediction)
    pipeline.save_pretrained(tmp_path / "saved")
    noise, told = torch.randn(1, 3, 8, 8), torch.randn(1, WIDTH)
    generator = torch.Generator().manual_seed(3)
    angles = pipeline.schedule.angles(num_steps)
    conditioning = pipeline.conditioner.embed(told)
    ours = pipeline.sampler.sample(pipeline.denoiser.eval(), noise, conditioning, angles, [generator])
    theirs = lcm_loop(tmp_path / "saved", noise, told, num_steps, torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, theirs, atol=1e-3 * float(theirs.abs().max()), rtol=1e-3)
    if num_steps > 1:
        other = lcm_loop(tmp_path / "saved", noise, told, num_steps, torch.Generator().manual_seed(4))
        assert (ours - other).norm() > 0.01 * theirs.norm()


def lcm_loop(folder, noise, told, num_steps, generator):
    """The sampling loop of diffusers' consistency pipelines, of its parts alone."""
    network = UNet2DConditionModel.from_pretrained(folder / "denoiser/network/unet").eval()
    scheduler = LCMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(num_steps)
    latents = noise
    for timestep in scheduler.timesteps:
        output = network(latents, timestep, encoder_hidden_states=None, class_labels=told).sample
        latents, denoised = scheduler.step(output, timestep, latents, generator=generator, return_dict=False)
    return denoised


def test_a_pipeline_that_diffusers_cannot_sample_gets_no_scheduler(tmp_path):
    for number, pipeline in enumerate([toy_melody(), toy_teacher()]):
        pipeline.save_pretrained(tmp_path / str(number))
        assert not (tmp_path / str(number) / "scheduler").exists()


def test_a_student_of_another_grid_is_written_without_a_scheduler_and_says_so(tmp_path, capsys):
    parts = student().init_arguments
    betas = ScaledLinearBetaAngles(spacing="trailing", zero_terminal_snr=True)
    pipeline = MusicCM(**{**parts, "schedule": GridAngles(betas, 50)})
    pipeline.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved/scheduler").exists()
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("no scheduler for diffusers is written: ")
    assert "spacing lcm" in line
    assert MusicCM.from_pretrained(tmp_path / "saved").weight_hashes() == pipeline.weight_hashes()


def test_other_grids_are_refused():
    for schedule in (LinearAngles(), ScaledLinearBetaAngles(spacing="trailing")):
        with pytest.raises(ValueError, match="spacing lcm"):
            lcm_settings(GridAngles(schedule, 10), "velocity")


def test_weights_of_a_part_that_config_does_not_describe_are_refused(tmp_path):
    save_network(unet(), tmp_path / "net")
    part = tmp_path / "net/unet/diffusion_pytorch_model.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not what config\.json describes"):
        load_network(tmp_path / "net")
    part.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"unet/diffusion_pytorch_model.safetensors is damaged"):
        load_network(tmp_path / "net")
    part.unlink()
    with pytest.raises(ValueError, match=r"unet.* is missing from it"):
        load_network(tmp_path / "net")


def test_an_export_in_one_file_is_still_read(tmp_path):
    from safetensors.torch import save_file

    network = unet().eval()
    save_network(network, tmp_path / "net")
    assert sorted(file.name for file in (tmp_path / "net/unet").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    (tmp_path / "net/unet/diffusion_pytorch_model.safetensors").unlink()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "net/model.safetensors")
    again = load_network(tmp_path / "net")
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in again.state_dict().items())
    assert json.loads((tmp_path / "net/config.json").read_text())["class_path"].endswith("UNet2D")
