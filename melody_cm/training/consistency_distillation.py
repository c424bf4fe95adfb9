"""Consistency distillation: a student learns in 1-8 steps what its guided teacher does in 50 (arXiv 2404.13358)."""

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import AngleSchedule, Autoencoder, Conditioner, Conditioning, Denoiser, Objective, Sampler
from melody_cm.storage import thaw
from melody_cm.training.ema import averaged_copy, update_average
from melody_cm.training.latent_diffusion import encode, sample_music
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class ConsistencyDistillation(Stage):
    """Four copies of one network: `teacher` is frozen; `trained` learns and starts equal to it; `target` is the fast
    average that belongs to the algorithm; `averaged` is the slow one that is validated and exported.

    Args:
        autoencoder, conditioner: frozen stages, as the teacher was trained with.
        teacher: the frozen denoiser to distil.
        objective: the consistency loss, with its own grid, guidance and solver.
        schedule, sampler, num_steps: how the student is sampled.
        target_decay: of the target network.
    """

    reads_waveform = False

    def __init__(
        self,
        autoencoder: Autoencoder,
        conditioner: Conditioner,
        teacher: Denoiser,
        objective: Objective,
        schedule: AngleSchedule,
        sampler: Sampler,
        optimization: Optimization,
        num_steps: int = 4,
        target_decay: float = 0.95,
        ema_decay: float = 0.999,
        sample_rate: int = 16000,
        seed: int = 0,
    ) -> None:
        student = averaged_copy(thaw(teacher)).requires_grad_(True).train()
        super().__init__({"denoiser": student}, optimization, ema_decay, sample_rate, seed)
        self.target = averaged_copy(student)
        self.teacher = teacher
        self.autoencoder = autoencoder
        self.conditioner = conditioner
        self.objective = objective
        self.schedule = schedule
        self.sampler = sampler
        self.num_steps = num_steps
        self.target_decay = target_decay
        self._check_sample_rates()

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        latent = encode(self.autoencoder, batch, self.seed)
        conditioning = self.conditioner.embed(self.conditioner.describe(batch))
        roles = {"student": networks["denoiser"], "teacher": self.teacher, "target": self.target}
        return self.objective(roles, latent, conditioning, batch.draws(self.seed)).terms

    def after_step(self) -> None:
        super().after_step()
        update_average(self.target, self.trained["denoiser"], self.target_decay)

    @property
    def hears_audio(self) -> bool:
        """Whether `sample` needs a batch's waveform, not its captions alone."""
        return self.conditioner.hears_audio

    @torch.no_grad()
    def denoising(self, batch: MusicBatch) -> tuple[Tensor, Conditioning, Denoiser]:
        """Latents, their conditioning and the averaged student: what one step is judged with."""
        latent = encode(self.autoencoder, batch, self.seed)
        return latent, self.conditioner.embed(self.conditioner.describe(batch)), self.averaged["denoiser"]

    @torch.no_grad()
    def sample(self, batch: MusicBatch) -> Tensor:
        """Music (b, 1, t) for the captions of a batch, by the averaged student, without guidance."""
        conditioning = self.conditioner.embed(self.conditioner.describe(batch))
        return sample_music(self, batch, self.averaged["denoiser"], conditioning)
