"""Latent diffusion: a denoiser and its conditioner learn velocity on the latents of a frozen autoencoder."""

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.diffusion import Guided
from melody_cm.interfaces import AngleSchedule, Autoencoder, Conditioner, Conditioning, Denoiser, Objective, Sampler
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class LatentDiffusion(Stage):
    """Trains MeLoDy's dual-path denoiser, MusicCM's teacher and every ablation.

    Args:
        autoencoder: the frozen stage whose latents are modelled.
        conditioner, denoiser: learn together.
        objective: the velocity loss and its noise levels.
        schedule, sampler, num_steps, guidance_scale: how `sample` draws music while training is watched.
    """

    reads_waveform = False

    def __init__(
        self,
        autoencoder: Autoencoder,
        conditioner: Conditioner,
        denoiser: Denoiser,
        objective: Objective,
        schedule: AngleSchedule,
        sampler: Sampler,
        optimization: Optimization,
        num_steps: int = 20,
        guidance_scale: float = 2.5,
        ema_decay: float = 0.9999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        trained = {"denoiser": denoiser, "conditioner": conditioner}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed)
        self.autoencoder = autoencoder
        self.objective = objective
        self.schedule = schedule
        self.sampler = sampler
        self.num_steps = num_steps
        self.guidance_scale = guidance_scale
        self._check_sample_rates()

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        draws = batch.draws(self.seed)
        latent = encode_latent(self.autoencoder, batch, self.seed)
        conditioner = networks["conditioner"]
        conditioning = conditioner.embed(conditioner.describe(batch))
        return self.objective({"student": networks["denoiser"]}, latent, conditioning, draws).terms

    @property
    def uses_audio(self) -> bool:
        """Whether `sample` needs a batch's waveform, not its captions alone."""
        return self.trained["conditioner"].uses_audio

    @torch.no_grad()
    def denoising(self, batch: MusicBatch) -> tuple[Tensor, Conditioning, Denoiser]:
        """Latents, their conditioning and the averaged denoiser, without guidance: what one step is judged with."""
        conditioner = self.averaged["conditioner"]
        latent = encode_latent(self.autoencoder, batch, self.seed)
        return latent, conditioner.embed(conditioner.describe(batch)), self.averaged["denoiser"]

    @torch.no_grad()
    def sample(self, batch: MusicBatch) -> Tensor:
        """Music (b, 1, t) for the captions or tokens of a batch, by the averaged networks."""
        return sample_music(self, batch, *self.guided(batch))

    @torch.no_grad()
    def sample_latent(self, batch: MusicBatch, num_steps: int) -> Tensor:
        """The latents (b, c, *axes) behind `sample`, at any number of steps."""
        return sample_latent(self, batch, *self.guided(batch), num_steps)

    @torch.no_grad()
    def guided(self, batch: MusicBatch) -> tuple[Denoiser, Conditioning]:
        """The averaged denoiser with guidance, and the conditioning of a batch."""
        conditioner = self.averaged["conditioner"]
        denoiser = Guided(self.averaged["denoiser"], self.guidance_scale)
        return denoiser, conditioner.embed(conditioner.describe(batch))


def encode_latent(autoencoder: Autoencoder, batch: MusicBatch, seed: int) -> Tensor:
    """A draw from the posterior of a batch's latents (b, c, *axes), cached or encoded now; fp32, without gradient."""
    with torch.no_grad():
        if batch.latent_mean is not None and batch.latent_std is not None:
            mean, std = batch.latent_mean, batch.latent_std
        else:
            mean, std = autoencoder.posterior(batch.need_waveform())
        noise = batch.draws(seed).normal("posterior", mean.shape[1:], mean.device)
        return autoencoder.clamp(mean.float() + std.float() * noise)


def sample_latent(stage, batch: MusicBatch, denoiser: Denoiser, conditioning: Conditioning, num_steps: int) -> Tensor:
    """Draw latents (b, c, *axes) of the length of a batch with a stage's sampler and schedule."""
    draws = batch.draws(stage.seed)
    shape = stage.autoencoder.latent_shape(batch.frame_mask.shape[-1] / stage.sample_rate)
    noise = draws.normal("sampling noise", shape, batch.frame_mask.device)
    angles = stage.schedule.angles(num_steps)
    return stage.sampler.sample(denoiser, noise, conditioning, angles, draws.generators("sampler"))


def sample_music(stage, batch: MusicBatch, denoiser: Denoiser, conditioning: Conditioning) -> Tensor:
    """Draw latents and decode them to the length of the batch."""
    latent = sample_latent(stage, batch, denoiser, conditioning, stage.num_steps)
    return stage.autoencoder.decode(latent)[..., : batch.frame_mask.shape[-1]]
