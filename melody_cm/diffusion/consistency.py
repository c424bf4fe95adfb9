"""Consistency function and consistency distillation (MusicCM, arXiv 2404.13358, section 3.2, equations 1-6)."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from melody_cm.diffusion.denoising import mean_unknown
from melody_cm.diffusion.guidance import Guided
from melody_cm.diffusion.process import clean_from_velocity, ddim_step, diffuse, over_latent
from melody_cm.interfaces import Angle, AngleSchedule, Conditioning, Denoiser, Losses, Objective
from melody_cm.placement import at_least_fp32
from melody_cm.randomness import Draws


class ConsistencyFunction:
    """A denoiser read as noisy latent -> clean latent: `cos(angle) * noisy - sin(angle) * velocity`.

    It is the identity at angle 0 by construction, so there is no c_skip and no c_out.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, noisy_latent: Tensor, angle: Angle, conditioning: Conditioning) -> Tensor:
        """The clean latent (b, c, *axes) in fp32."""
        return clean_from_velocity(noisy_latent, self.denoiser(noisy_latent, angle, conditioning), angle)


class ConsistencyObjective(Objective):
    """The student's clean latent at one angle of the grid against the target's at the next lower one.

    The guided teacher walks between the two with one DDIM step. At the noisiest angle the input is pure noise, as it is
    in sampling; from the lowest one the step ends at angle 0, where the target is the teacher's own clean latent, so
    that there alone the data anchor the chain. Term "distillation"; gradients reach `networks["student"]` only.

    A denoiser with an angle for each frame can also be distilled with a known beginning, as continuation gives it one:
    those frames are clean, at angle 0, and do not count in the loss.

    Args:
        schedule: makes the grid.
        grid_steps: number of steps of the grid, which must end at angle 0.
        guidance_scale: of the teacher; the student has it built in afterwards.
        distance: "huber" is `sqrt(difference^2 + huber_c^2) - huber_c`, "l2" the squared difference; mean per element.
        huber_c: where the pseudo-Huber distance turns from quadratic to linear, in units of the latent.
        weight: of the term (the paper's lambda).
        prefix_probability: how often the first frames of a clip are known, from none to all but one.

    Raises:
        ValueError: an argument out of range, or known frames for a denoiser that takes one angle a clip.
    """

    def __init__(
        self,
        schedule: AngleSchedule,
        grid_steps: int = 50,
        guidance_scale: float = 3.0,
        distance: Literal["huber", "l2"] = "huber",
        huber_c: float = 0.001,
        weight: float = 1.0,
        prefix_probability: float = 0.0,
    ) -> None:
        if huber_c <= 0:
            raise ValueError(f"huber_c is {huber_c}, but must be positive")
        if not 0 <= prefix_probability <= 1:
            raise ValueError(f"prefix_probability is {prefix_probability}, but a probability lies in [0, 1]")
        self.grid = schedule.angles(grid_steps)
        if self.grid[-1] != 0:
            raise ValueError(f"the grid ends at angle {self.grid[-1]:.4f}, but must end at 0: set final_zero to true")
        self.grid_steps = grid_steps
        self.guidance_scale = guidance_scale
        self.distance = distance
        self.huber_c = huber_c
        self.weight = weight
        self.prefix_probability = prefix_probability

    def __call__(
        self, networks: Mapping[str, Denoiser], latent: Tensor, conditioning: Conditioning, draws: Draws
    ) -> Losses:
        """The distillation loss on a clean latent (b, c, *axes), and the student's clean latent."""
        index = draws.integers("distillation_index", self.grid_steps)
        # Indexed in fp64, then fp32: half a unit in the last place is far below the distance of two angles.
        angle, lower_angle = (self.grid[i].float().to(latent.device) for i in (index, index + 1))
        noise = draws.normal("diffusion_noise", latent.shape[1:], latent.device)
        noisiest = (index == 0).to(latent.device)
        noisy = torch.where(over_latent(noisiest, latent), noise, diffuse(latent, noise, angle))
        if self.prefix_probability:
            known = self._known_prefix(networks["student"], latent, draws)
            noisy = torch.where(over_latent(known, latent), latent, noisy)
            angle, lower_angle = (each[:, None].masked_fill(known, 0) for each in (angle, lower_angle))

        prediction = ConsistencyFunction(networks["student"])(noisy, angle, conditioning)
        with torch.no_grad():
            teacher_velocity = Guided(networks["teacher"], self.guidance_scale)(noisy, angle, conditioning)
            less_noisy = ddim_step(noisy, teacher_velocity, angle, lower_angle)
            target = ConsistencyFunction(networks["target"])(less_noisy, lower_angle, conditioning)
        distance = self._distance(prediction, target)
        mean = mean_unknown(distance, known) if self.prefix_probability else distance.mean()
        return Losses({"distillation": self.weight * mean}, prediction, noisiest)

    def _known_prefix(
        self, student: Denoiser, latent: Float[Tensor, "b c l *axes"], draws: Draws
    ) -> Bool[Tensor, "b l"]:
        if not student.per_frame_angles:
            raise ValueError("prefix_probability needs a denoiser with per_frame_angles: set it to 0 for this one")
        length = latent.shape[2]
        chosen = draws.uniform("known_pattern") < self.prefix_probability
        known = chosen * (draws.uniform("known_place") * length).floor()
        return (torch.arange(length) < known[:, None]).to(latent.device)

    def _distance(
        self, prediction: Float[Tensor, "b c *axes"], target: Float[Tensor, "b c *axes"]
    ) -> Float[Tensor, "b c *axes"]:
        squared = (at_least_fp32(prediction) - at_least_fp32(target)).square()
        if self.distance == "l2":
            return squared
        return (squared + self.huber_c**2).sqrt() - self.huber_c
