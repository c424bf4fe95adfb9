"""Consistency distillation: a student learns in 1-8 steps what its guided teacher does in 50 (arXiv 2404.13358)."""

from collections.abc import Mapping

from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.diffusion import ConsistencyObjective, TimestepDenoiser
from melody_cm.interfaces import (
    AngleSchedule,
    Autoencoder,
    Conditioner,
    Denoiser,
    DiscriminatorContext,
    Sampler,
)
from melody_cm.training.adversarial import AdversarialStage, Adversary, Generated
from melody_cm.training.ema import averaged_copy, update_average
from melody_cm.training.latent_diffusion import LatentMusic, encode_latent
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks


class ConsistencyDistillation(LatentMusic, AdversarialStage):
    """Four copies of one network: `teacher` is frozen; `student` learns and starts equal to it; `target` is the fast
    average that belongs to the algorithm; `averaged` is the slow one that is validated and exported.

    With an adversary the student's clean latents are also judged beside those of real music. A ValueError if the
    schedule visits angles that the objective's grid does not hold, or the grid those that the teacher refuses.

    Args:
        autoencoder, conditioner: frozen stages, as the teacher was trained with.
        teacher: the frozen denoiser to distil.
        objective: the consistency loss, with its own grid, guidance and solver.
        schedule, sampler, num_steps: how the student is sampled, at angles of the objective's grid.
        adversary, gradient_clip, accumulate: as in `AdversarialStage`.
        target_decay: of the target network.
    """

    begins_as_frozen = ("denoiser",)

    def __init__(
        self,
        autoencoder: Autoencoder,
        conditioner: Conditioner,
        teacher: Denoiser,
        objective: ConsistencyObjective,
        schedule: AngleSchedule,
        sampler: Sampler,
        optimization: Optimization,
        num_steps: int = 4,
        adversary: Adversary | None = None,
        gradient_clip: float = 1.0,
        accumulate: int = 1,
        target_decay: float = 0.95,
        ema_decay: float = 0.999,
        sample_rate: int = 16000,
        seed: int = 0,
    ) -> None:
        _check_grid(objective, schedule, num_steps)
        if isinstance(teacher, TimestepDenoiser):
            teacher.check_angle(objective.grid[:1])
        student = averaged_copy(teacher).requires_grad_(True).train()
        trained = {"denoiser": student}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed, adversary, gradient_clip, accumulate)
        self.target, self.target_decay = averaged_copy(student), target_decay
        self.teacher, self.autoencoder, self.conditioner = teacher, autoencoder, conditioner
        self.objective, self.schedule, self.sampler, self.num_steps = objective, schedule, sampler, num_steps
        self.check_sample_rates()

    @property
    def student(self) -> Denoiser:
        """The copy that learns."""
        return self.trained["denoiser"]

    def start_from(self, weights: Mapping[str, Mapping[str, Tensor]], source: str) -> None:
        super().start_from(weights, source)
        self.target.load_state_dict(self.student.state_dict(), strict=False)

    def generate(self, networks: Networks, batch: MusicBatch) -> Generated:
        latent = encode_latent(self.autoencoder, batch, self.seed)
        conditioning = self.conditioner.embed(self.conditioner.describe(batch))
        draws = batch.draws(self.seed)
        roles = {"student": networks["denoiser"], "teacher": self.teacher, "target": self.target}
        losses = self.objective(roles, latent, conditioning, draws)
        context = DiscriminatorContext(conditioning, latent, losses.from_noise, draws)
        return Generated(losses.terms, latent, losses.prediction, context)

    def after_step(self) -> None:
        super().after_step()
        update_average(self.target, self.student, self.target_decay)


def _check_grid(objective: ConsistencyObjective, schedule: AngleSchedule, num_steps: int) -> None:
    visited, grid = schedule.angles(num_steps), objective.grid
    strays = [angle for angle in visited.tolist() if float((grid - angle).abs().min()) > 1e-9]
    if strays:
        raise ValueError(
            f"{num_steps} steps visit angle {strays[0]:.4f}, which is not on the grid of {objective.grid_steps} steps "
            "that the student learns; give schedule the objective's own schedule and grid_steps"
        )
