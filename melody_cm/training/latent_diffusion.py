"""Latent diffusion: a denoiser and its conditioner learn velocity on the latents of a frozen autoencoder."""

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.diffusion import Guided
from melody_cm.interfaces import AngleSchedule, Autoencoder, Conditioner, Conditioning, Denoiser, Objective, Sampler
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class LatentMusic:
    """What stages share whose averaged denoiser makes music in the latents of a frozen autoencoder."""

    autoencoder: Autoencoder
    conditioner: Conditioner
    schedule: AngleSchedule
    sampler: Sampler
    num_steps: int  # How music is drawn while training is watched.
    guidance_scale: float = 1.0  # 1 is none.
    reads_waveform = False

    @property
    def uses_audio(self) -> bool:
        """Whether `sample` needs a batch's waveform, not its captions alone."""
        return self.conditioner.uses_audio

    @torch.no_grad()
    def denoising(self, batch: MusicBatch) -> tuple[Tensor, Conditioning, Denoiser]:
        """Latents, their conditioning and the averaged denoiser, without guidance: what one step is judged with."""
        return encode_latent(self.autoencoder, batch, self.seed), self._told(batch), self.averaged["denoiser"]

    @torch.no_grad()
    def sample_latent(self, batch: MusicBatch, num_steps: int) -> Tensor:
        """Latents (b, c, *axes) of the length of a batch, for its captions or tokens, at any number of steps."""
        draws, denoiser = batch.draws(self.seed), Guided(self.averaged["denoiser"], self.guidance_scale)
        shape = self.autoencoder.latent_shape(batch.frame_mask.shape[-1] / self.sample_rate)
        noise = draws.normal("sampling noise", shape, batch.frame_mask.device)
        angles, fresh = self.schedule.angles(num_steps), draws.generators("sampler")
        return self.sampler.sample(denoiser, noise, self._told(batch), angles, fresh)

    @torch.no_grad()
    def sample(self, batch: MusicBatch) -> Tensor:
        """The music (b, 1, t) of `sample_latent`, by the averaged networks."""
        latent = self.sample_latent(batch, self.num_steps)
        return self.autoencoder.decode(latent)[..., : batch.frame_mask.shape[-1]]

    def _told(self, batch: MusicBatch) -> Conditioning:
        return self.conditioner.embed(self.conditioner.describe(batch))


class LatentDiffusion(LatentMusic, Stage):
    """Trains MeLoDy's dual-path denoiser, MusicCM's teacher and every ablation.

    Args:
        autoencoder: the frozen stage whose latents are modelled.
        conditioner, denoiser: learn together.
        objective: the velocity loss and its noise levels.
        schedule, sampler, num_steps, guidance_scale: as in `LatentMusic`.
    """

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
        self.autoencoder, self.objective = autoencoder, objective
        self.schedule, self.sampler = schedule, sampler
        self.num_steps, self.guidance_scale = num_steps, guidance_scale
        self.check_sample_rates()

    @property
    def conditioner(self) -> Conditioner:  # type: ignore[override]
        """The average of the one that learns."""
        return self.averaged["conditioner"]

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        draws = batch.draws(self.seed)
        latent = encode_latent(self.autoencoder, batch, self.seed)
        conditioner = networks["conditioner"]
        conditioning = conditioner.embed(conditioner.describe(batch))
        return self.objective({"student": networks["denoiser"]}, latent, conditioning, draws).terms


def encode_latent(autoencoder: Autoencoder, batch: MusicBatch, seed: int) -> Tensor:
    """A draw from the posterior of a batch's latents (b, c, *axes), cached or encoded now; fp32, without gradient."""
    with torch.no_grad():
        if batch.latent_mean is not None and batch.latent_std is not None:
            mean, std = batch.latent_mean, batch.latent_std
        else:
            mean, std = autoencoder.posterior(batch.need_waveform())
        noise = batch.draws(seed).normal("posterior", mean.shape[1:], mean.device)
        return autoencoder.clamp(mean.float() + std.float() * noise)
