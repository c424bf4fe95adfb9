"""MusicCM's autoencoder: log-mel spectrogram <-> latent, and a vocoder (arXiv 2404.13358, section 4.1)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.autoencoders.bottleneck import DiagonalGaussian
from melody_cm.interfaces import Autoencoder, Reconstruction, Vocoder
from melody_cm.placement import keep_fp32
from melody_cm.randomness import Draws
from melody_cm.signal import MelFrontEnd, MelSettings, pad_to_multiple

CALIBRATION_BATCH = 8


class MelAutoencoder(Autoencoder):
    """A log-mel, a KL autoencoder of diffusers on it, and a vocoder back to the waveform.

    The latent is (b, c, l / p, f / p) with p = 2 ** (number of blocks - 1), scaled to (latent - shift) * scale; clips
    are padded with silence to a multiple of p frames. Levels are kept: no waveform is normalized. The autoencoder is
    judged on log-mels (b, l, f).

    Args:
        vocoder: log-mel -> waveform; must understand the mels that the next six arguments define.
        sample_rate, n_fft, hop_length, num_mels, f_min, f_max: as in `MelSettings`.
        block_out_channels: widths, one a resolution; each but the last halves time and frequency.
        latent_channels: c.
        layers_per_block: residual blocks a resolution.
        norm_num_groups: must divide every width.
        mid_attention: self-attention at the lowest resolution, as MusicLDM's public weights have it.
        mel_mean, mel_std: the network sees (log-mel - mel_mean) / mel_std. The defaults bring music's -11.5 to 3 near
            [-2, 2]; public weights were trained with 0 and 1.

    Raises:
        ValueError: a vocoder of other mels, bins that cannot be halved so often, or groups that do not divide a width.
    """

    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(
        self,
        vocoder: Vocoder,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        num_mels: int,
        f_min: float,
        f_max: float,
        block_out_channels: list[int],
        latent_channels: int,
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        mid_attention: bool = False,
        mel_mean: float = -4.0,
        mel_std: float = 4.0,
    ) -> None:
        from diffusers import AutoencoderKL  # Takes its time, which systems without mels need not wait for.

        super().__init__()
        settings = MelSettings(sample_rate, n_fft, hop_length, num_mels, f_min, f_max)
        _check_vocoder(settings, vocoder)
        self.compression = 2 ** (len(block_out_channels) - 1)
        _check_geometry(num_mels, self.compression, block_out_channels, norm_num_groups)
        self.sample_rate = sample_rate
        self.latent_channels = latent_channels
        self.mel_mean = mel_mean
        self.mel_std = mel_std
        self.mel = MelFrontEnd(settings)
        self.vocoder = vocoder
        self.vae = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
            up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_attention,
        ).to(memory_format=torch.channels_last)
        keep_fp32(self.vae.decoder.conv_out)
        self.register_buffer("latent_shift", torch.zeros(()))
        self.register_buffer("latent_scale", torch.ones(()))

    @property
    def pass_module(self) -> nn.Module:
        return self.vae.decoder

    def posterior(self, waveform: Float[Tensor, "b 1 t"]) -> tuple[Tensor, Tensor]:
        gaussian = self._gaussian(self._padded_mel(waveform))
        return (gaussian.mean - self.latent_shift) * self.latent_scale, gaussian.std * self.latent_scale

    def reconstruct(self, waveform: Float[Tensor, "b 1 t"], draws: Draws) -> Reconstruction:
        mel = self._padded_mel(waveform)
        gaussian = self._gaussian(mel)
        noise = draws.normal("posterior", gaussian.mean.shape[1:], waveform.device)
        decoded = self._decode_mel(gaussian.sample(noise))
        num_frames = -(-waveform.shape[-1] // self.mel.settings.hop_length)
        return Reconstruction(mel[:, :num_frames], decoded[:, :num_frames], gaussian.kl())

    def decode(self, latent: Float[Tensor, "b c l f"]) -> Float[Tensor, "b 1 t"]:
        """The waveform within [-1, 1], t = l * p * hop_length samples; deterministic if the vocoder is."""
        return self.vocoder(self.decode_mel(latent)).clamp(-1, 1)

    def decode_mel(self, latent: Float[Tensor, "b c l f"]) -> Float[Tensor, "b frames bins"]:
        """The log-mel of a latent."""
        return self._decode_mel(latent / self.latent_scale + self.latent_shift)

    def latent_shape(self, seconds: float) -> tuple[int, ...]:
        samples = round(seconds * self.sample_rate)
        frames = -(-samples // (self.mel.settings.hop_length * self.compression))
        return (self.latent_channels, frames, self.mel.settings.num_mels // self.compression)

    def diffusers_settings(self) -> dict[str, Any]:
        """What diffusers' VAE is to know beside its geometry, when it is saved."""
        return {"scaling_factor": float(self.latent_scale), "shift_factor": float(self.latent_shift)}

    @torch.no_grad()
    def calibrate(self, waveform: Float[Tensor, "b 1 t"]) -> None:
        """Shift and scale such that the latents of these clips have zero mean and unit standard deviation."""
        means = [self._gaussian(self._padded_mel(clips)).mean for clips in waveform.split(CALIBRATION_BATCH)]
        latent = torch.cat(means)
        self.latent_shift.copy_(latent.mean())
        self.latent_scale.copy_(1 / latent.std().clamp(min=1e-5))

    def _padded_mel(self, waveform: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b l f"]:
        return self.mel(pad_to_multiple(waveform, self.mel.settings.hop_length * self.compression))

    def _gaussian(self, mel: Float[Tensor, "b l f"]) -> DiagonalGaussian:
        image = ((mel - self.mel_mean) / self.mel_std)[:, None].contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(image).latent_dist
        return DiagonalGaussian.from_parameters(posterior.parameters)

    def _decode_mel(self, latent: Float[Tensor, "b c l f"]) -> Float[Tensor, "b frames bins"]:
        image = self.vae.decode(latent.contiguous(memory_format=torch.channels_last)).sample[:, 0]
        return image * self.mel_std + self.mel_mean


def _check_vocoder(settings: MelSettings, vocoder: Vocoder) -> None:
    differences = settings.differences(vocoder.mel_settings)
    if differences:
        raise ValueError(
            f"the vocoder {type(vocoder).__name__} was made for other mels than the autoencoder "
            f"({'; '.join(differences)}; autoencoder first); give both the same settings"
        )


def _check_geometry(num_mels: int, compression: int, block_out_channels: list[int], norm_num_groups: int) -> None:
    if num_mels % compression:
        raise ValueError(
            f"num_mels {num_mels} must be a multiple of {compression} for {len(block_out_channels)} blocks; "
            f"use {-(-num_mels // compression) * compression}"
        )
    for width in block_out_channels:
        if width % norm_num_groups:
            raise ValueError(f"norm_num_groups {norm_num_groups} must divide the width {width}; use a divisor of it")


def with_vocoder(autoencoder: Autoencoder, vocoder: Vocoder) -> Autoencoder:
    """A trained mel autoencoder with a vocoder that was trained apart from it, in the place of its own; frozen.

    Raises:
        ValueError: an autoencoder without mels, or a vocoder of other mels.
    """
    if not isinstance(autoencoder, MelAutoencoder):
        kind = type(autoencoder).__name__
        raise ValueError(f"a {kind} takes no vocoder; name the stage of a mel autoencoder")
    parts = {"autoencoder": autoencoder.origin, "vocoder": vocoder.origin}
    vocoder.stage = vocoder.origin = None  # It becomes a part of the autoencoder and is saved with it.
    both = MelAutoencoder(**{**autoencoder.init_arguments, "vocoder": vocoder})
    weights = {name: value for name, value in autoencoder.state_dict().items() if not name.startswith("vocoder.")}
    both.load_state_dict(both.state_dict() | weights, strict=False)
    origin = {"class_path": "melody_cm.autoencoders.with_vocoder", "init_args": parts}
    return both.to(autoencoder.latent_scale.device).freeze(autoencoder.stage or "none", origin)
