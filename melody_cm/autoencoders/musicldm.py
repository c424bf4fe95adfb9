"""The mel autoencoder and the vocoder of a public MusicLDM folder (arXiv 2308.01546; MusicCM, section 4.1)."""

import math

import torch

from melody_cm.autoencoders.hifigan_vocoder import HiFiGANVocoder
from melody_cm.autoencoders.mel import MelAutoencoder
from melody_cm.interfaces import Autoencoder, Vocoder
from melody_cm.storage import load_part, public_stage

# What MusicLDM trained on and no file of its folder says.
N_FFT = 1024
SLOPE = 0.1  # Of HiFi-GAN's rectifiers, MusicLDM's and ours.


def musicldm_autoencoder(folder: str) -> Autoencoder:
    """The VAE and the HiFi-GAN of a public MusicLDM folder (its parts `vae` and `vocoder`), frozen.

    Args:
        folder: in the layout of diffusers, or its id on the model hub (owner/name).

    Raises:
        FileNotFoundError, ValueError: as `read_autoencoder`.
    """
    origin = {"class_path": "melody_cm.autoencoders.musicldm_autoencoder", "init_args": {"folder": folder}}
    return read_autoencoder(folder).freeze(public_stage(folder), origin)


def musicldm_vocoder(folder: str) -> Vocoder:
    """The HiFi-GAN of a public MusicLDM folder (its part `vocoder`), frozen; arguments and errors as above."""
    origin = {"class_path": "melody_cm.autoencoders.musicldm_vocoder", "init_args": {"folder": folder}}
    return read_vocoder(folder).freeze(public_stage(folder), origin)


@torch.no_grad()
def read_vocoder(folder: str) -> HiFiGANVocoder:
    """The vocoder of a public folder, ours in form.

    Raises:
        FileNotFoundError, ValueError: it cannot be had, or has residual blocks of unlike dilations or another slope.
    """
    from transformers import SpeechT5HifiGan

    public = load_part(SpeechT5HifiGan, folder, "vocoder")
    config = public.config
    dilations = [list(each) for each in config.resblock_dilation_sizes]
    if any(each != dilations[0] for each in dilations):
        raise ValueError(
            f"{folder}/vocoder has residual blocks of unlike dilations {dilations}, which is not supported"
        )
    if config.leaky_relu_slope != SLOPE:
        raise ValueError(
            f"{folder}/vocoder has leaky_relu_slope {config.leaky_relu_slope:g}, but only {SLOPE:g} is supported"
        )
    vocoder = HiFiGANVocoder(
        sample_rate=config.sampling_rate,
        n_fft=N_FFT,
        hop_length=math.prod(config.upsample_rates),
        num_mels=config.model_in_dim,
        f_min=0.0,
        f_max=config.sampling_rate / 2,
        upsampling=list(config.upsample_rates),
        upsampling_kernels=list(config.upsample_kernel_sizes),
        first_channels=config.upsample_initial_channel,
        residual_kernels=list(config.resblock_kernel_sizes),
        residual_dilations=dilations[0],
        mel_mean=0.0,
        mel_std=1.0,
    )
    weights = public.state_dict()
    if not config.normalize_before:
        weights = {name: value for name, value in weights.items() if name not in ("mean", "scale")}
    vocoder.model.load_state_dict(vocoder.model.state_dict() | weights)
    return vocoder.eval()


@torch.no_grad()
def read_autoencoder(folder: str) -> MelAutoencoder:
    """The autoencoder of a public folder, with its vocoder and its scale of the latent, ours in form.

    Raises:
        FileNotFoundError, ValueError: it cannot be had, or is no autoencoder of mels of the vocoder's kind.
    """
    from diffusers import AutoencoderKL

    vocoder = read_vocoder(folder)
    public = load_part(AutoencoderKL, folder, "vae")
    config = public.config
    if (config.in_channels, config.out_channels) != (1, 1):
        raise ValueError(f"{folder}/vae has {config.in_channels} input channels; an autoencoder of mels has 1")
    autoencoder = MelAutoencoder(
        vocoder,
        **vars(vocoder.mel_settings),
        block_out_channels=list(config.block_out_channels),
        latent_channels=config.latent_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        mid_attention=config.mid_block_add_attention,
        mel_mean=0.0,
        mel_std=1.0,
    )
    autoencoder.vae.load_state_dict(public.state_dict())
    autoencoder.latent_scale.fill_(config.scaling_factor)
    return autoencoder.eval()
