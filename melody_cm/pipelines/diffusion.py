"""What the pipelines share that denoise a latent and decode it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from melody_cm.diffusion import Guided
from melody_cm.interfaces import (
    AngleSchedule,
    Autoencoder,
    Conditioner,
    Conditioning,
    Denoiser,
    Known,
    Sampler,
)
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import Batch

MAX_STEPS = 1000
# Half a day of music, so that a 16-bit or 24-bit WAV holds it.
LONGEST_SECONDS = 43200.0


class DiffusionPipeline(PretrainedPipeline):
    """A pipeline of a conditioner, a denoiser with its schedule and sampler, and an autoencoder.

    With `guidance_embedded` the denoiser learned a guided teacher's results, at `embedded_guidance_scale` if that is
    known, and takes no guidance.
    """

    conditioner: Conditioner
    denoiser: Denoiser
    autoencoder: Autoencoder
    schedule: AngleSchedule
    sampler: Sampler
    guidance_embedded: bool
    embedded_guidance_scale: float | None

    @property
    def sample_rate(self) -> int:  # type: ignore[override]
        """Hz, the autoencoder's own."""
        return self.autoencoder.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples a latent frame."""
        frames = self.autoencoder.latent_shape(1000.0)[1]  # Long, so that what is rounded up does not count.
        return round(1000 * self.sample_rate / frames)

    def denoise(
        self,
        batch: Batch,
        noise: Tensor,
        conditioning: Conditioning,
        known: Known | None = None,
        denoiser: Denoiser | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """The latent that the sampler makes of noise, in the batch's steps and at its guidance scale."""
        guided = Guided(self.denoiser, batch.guidance_scale) if denoiser is None else denoiser
        fresh = batch.generators("sampler") if generators is None else generators
        return self.sampler.sample(guided, noise, conditioning, self.schedule.angles(batch.num_steps), fresh, known)

    def _check_guidance(self) -> None:
        if self.guidance_embedded and self.guidance_scale != 1:
            raise ValueError(
                f"guidance_scale is {self.guidance_scale:g}, but with guidance_embedded it must be 1 (none)"
            )

    def _num_steps(self, asked: int | None) -> int:
        num_steps = self.num_steps if asked is None else asked
        if not 1 <= num_steps <= MAX_STEPS:
            raise ValueError(f"num_steps is {num_steps}; sampling takes 1 to {MAX_STEPS} steps")
        self.schedule.angles(num_steps)  # Refuses what the schedule cannot do before any work is done.
        return num_steps

    def _guidance(self, asked: float | int | None) -> float:
        if self.guidance_embedded and asked is not None:
            learned = self.embedded_guidance_scale
            scale = "guided results" if learned is None else f"results at guidance scale {learned:g}"
            raise ValueError(
                f"guidance_scale {asked:g} asked for, but this student learned its teacher's {scale}: "
                "guidance is built in; leave guidance_scale out, or use the teacher's pipeline"
            )
        return self.guidance_scale if asked is None else asked
