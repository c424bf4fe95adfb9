"""What the pipelines share that denoise a latent and decode it."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from melody_cm.diffusion import Guided
from melody_cm.interfaces import AngleSchedule, Autoencoder, Conditioner, Conditioning, Denoiser, Known, Sampler
from melody_cm.pipelines.pretrained import PretrainedPipeline
from melody_cm.pipelines.request import Batch, Request

MAX_STEPS = 1000
# Half a day of music, so that a 16-bit or 24-bit WAV holds it.
LONGEST_SECONDS = 43200.0


def told(denoiser: Denoiser, batch: Batch) -> Denoiser:
    """A denoiser that was made for this sampling alone; after each of its calls it tells a request that wants to know
    (step, num_steps), step from 1 on."""
    tell = step_bar() if batch.progress is True else batch.progress
    if tell:
        steps = itertools.cycle(range(1, batch.num_steps + 1))

        def after_call(*_: object) -> None:
            tell(next(steps), batch.num_steps)

        denoiser.register_forward_hook(after_call)
    return denoiser


def step_bar() -> Callable[[int, int], None]:
    """A bar of one sampling's steps, on the standard error or in a notebook."""
    bar = Progress(console=Console(stderr=True))
    task = bar.add_task("denoising steps")

    def show(step: int, num_steps: int) -> None:
        if step == 1:
            bar.start()
        bar.update(task, completed=step, total=num_steps)
        if step == num_steps:
            bar.stop()

    return show


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
        guided = told(Guided(self.denoiser, batch.guidance_scale) if denoiser is None else denoiser, batch)
        fresh = batch.generators("sampler") if generators is None else generators
        return self.sampler.sample(guided, noise, conditioning, self.schedule.angles(batch.num_steps), fresh, known)

    def compile(self) -> "DiffusionPipeline":
        """Let a GPU record the passes of the denoiser and run each as one (torch.compile with CUDA graphs), which saves
        the hundreds of launches that a pass for one clip waits for; returns the pipeline.

        The first passes of each shape take minutes. Results differ by rounding.

        Raises:
            ValueError: the pipeline is on no CUDA device.
        """
        if self.device.type != "cuda":
            raise ValueError(f"only a CUDA device records passes, and this is on {self.device}; use it as it is")
        self.denoiser.compile(mode="reduce-overhead")
        return self

    def _check_guidance(self) -> None:
        if self.guidance_embedded and self.guidance_scale != 1:
            raise ValueError(
                f"guidance_scale is {self.guidance_scale:g}, but with guidance_embedded it must be 1 (none)"
            )

    def _check_sampling(self, request: Request) -> None:
        num_steps, scale = self.sampling(request).values()
        if not 1 <= num_steps <= MAX_STEPS:
            raise ValueError(f"num_steps is {num_steps}; sampling takes 1 to {MAX_STEPS} steps")
        self.schedule.angles(num_steps)  # Refuses what the schedule cannot do before any work is done.
        if self.guidance_embedded and request.guidance_scale is not None:
            learned = self.embedded_guidance_scale
            results = "guided results" if learned is None else f"results at guidance scale {learned:g}"
            raise ValueError(
                f"guidance_scale {scale:g} asked for, but this student learned its teacher's {results}: "
                "guidance is built in; leave guidance_scale out, or use the teacher's pipeline"
            )
        if not math.isfinite(scale):
            raise ValueError(f"guidance_scale is {scale}; give a finite number, 1 for none")
