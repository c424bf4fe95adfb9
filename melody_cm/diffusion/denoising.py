"""Training a denoiser to predict velocity, with an angle of its own for every chunk of the music.

MeLoDy (arXiv 2305.15719), equations 5-8; one chunk is the ordinary objective of MusicCM's teacher (section 3.1).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from melody_cm.diffusion.process import clean_from_velocity, diffuse, velocity
from melody_cm.interfaces import AngleSchedule, Conditioning, Denoiser, Losses, Objective
from melody_cm.placement import at_least_fp32
from melody_cm.randomness import Draws


class DenoisingObjective(Objective):
    """Mean squared velocity error per element, term "velocity"; trains `networks["student"]`.

    The l frames are cut at `floor(m * l / num_chunks)` into chunks, each at an angle drawn by itself. Two patterns
    set chunks to angle 0: those are known frames, given clean, which the sampler re-imposes anyway, and so they do not
    count in the loss.

    Args:
        schedule: says which angles are trained on.
        num_chunks: 1 gives the denoiser angles (b,), more give it (b, l).
        tie_probability: how often all chunks of a clip share one angle, as they do when a fresh clip is sampled.
        prefix_probability: how often the first 1 .. num_chunks - 1 chunks are known (continuation).
        inpaint_probability: how often all but one interior chunk are known (inpainting); never along with a prefix.
        condition_drop: how often a clip's conditioning is dropped, for guidance; never while the student is in
            evaluation mode.

    Raises:
        ValueError: too few chunks for a pattern, too few frames for the chunks, or a denoiser that takes no (b, l).
    """

    def __init__(
        self,
        schedule: AngleSchedule,
        num_chunks: int = 1,
        tie_probability: float = 0.0,
        prefix_probability: float = 0.0,
        inpaint_probability: float = 0.0,
        condition_drop: float = 0.1,
    ) -> None:
        self.schedule = schedule
        self.num_chunks = num_chunks
        self.tie_probability = tie_probability
        self.prefix_probability = prefix_probability
        self.inpaint_probability = inpaint_probability
        self.condition_drop = condition_drop
        self._check_arguments()

    def _check_arguments(self) -> None:
        for name in ("tie_probability", "prefix_probability", "inpaint_probability", "condition_drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but a probability lies in [0, 1]")
        if self.prefix_probability + self.inpaint_probability > 1:
            raise ValueError("prefix_probability + inpaint_probability exceed 1: a clip follows one pattern at most")
        needed = 3 if self.inpaint_probability else 2 if self.prefix_probability else 1
        if self.num_chunks < needed:
            raise ValueError(f"num_chunks is {self.num_chunks}, but these probabilities need at least {needed}")

    def __call__(
        self, networks: Mapping[str, Denoiser], latent: Tensor, conditioning: Conditioning, draws: Draws
    ) -> Losses:
        """The velocity error on a clean latent (b, c, *axes), and the clean latent predicted."""
        student = networks["student"]
        self._check_fit(student, latent)
        angle, known = self._angles(draws, latent.shape[2])
        angle, known = angle.to(latent.device), known.to(latent.device)
        noise = draws.normal("diffusion_noise", latent.shape[1:], latent.device)
        noisy = diffuse(latent, noise, angle)
        # What is validated is the conditional network alone.
        dropped = draws.uniform("condition_drop") < (self.condition_drop if student.training else 0)
        predicted = student(noisy, angle, conditioning.drop(dropped))
        squared_error = (at_least_fp32(predicted) - velocity(latent, noise, angle)).square()
        terms = {"velocity": mean_unknown(squared_error, known)}
        return Losses(terms, clean_from_velocity(noisy, predicted, angle))

    def _check_fit(self, student: Denoiser, latent: Tensor) -> None:
        if self.num_chunks > 1 and not student.per_frame_angles:
            raise ValueError(
                f"num_chunks is {self.num_chunks}, but the denoiser takes one angle a clip: use num_chunks=1"
            )
        if latent.shape[2] < self.num_chunks:
            raise ValueError(f"{latent.shape[2]} latent frames make no {self.num_chunks} chunks: use a longer clip")

    def _angles(self, draws: Draws, num_frames: int) -> tuple[Tensor, Tensor]:
        """Angles, (b,) or (b, l), and the known frames (b, l), on the CPU."""
        chunk_angles = self.schedule.training_angles(draws.uniform("diffusion_angle", (self.num_chunks,)))
        tied = draws.uniform("tied_angles") < self.tie_probability
        chunk_angles = torch.where(tied[:, None], chunk_angles[:, :1], chunk_angles)
        known = self._known_chunks(draws)
        chunk_angles = chunk_angles.masked_fill(known, 0)
        boundaries = torch.arange(self.num_chunks + 1) * num_frames // self.num_chunks
        known = known.repeat_interleave(boundaries.diff(), dim=1)
        if self.num_chunks == 1:
            return chunk_angles[:, 0], known
        return chunk_angles.repeat_interleave(boundaries.diff(), dim=1), known

    def _known_chunks(self, draws: Draws) -> Bool[Tensor, "b m"]:
        chunk = torch.arange(self.num_chunks)
        pattern, place = draws.uniform("known_pattern")[:, None], draws.uniform("known_place")[:, None]
        prefix = pattern < self.prefix_probability
        inpaint = ~prefix & (pattern < self.prefix_probability + self.inpaint_probability)
        # `place` is uniform in [0, 1): a prefix of 1 .. m - 1 chunks, a hole at one of the chunks 1 .. m - 2.
        before_prefix_end = chunk < 1 + (place * (self.num_chunks - 1)).floor()
        outside_hole = chunk != 1 + (place * (self.num_chunks - 2)).floor()
        return prefix & before_prefix_end | inpaint & outside_hole


def mean_unknown(squared_error: Float[Tensor, "b c l *axes"], known: Bool[Tensor, "b l"]) -> Float[Tensor, ""]:
    """The mean over clips of the mean over the elements of a clip's unknown frames: no clip weighs on another, so that
    parts of a batch, on several processes or one after another, average to the whole."""
    a_frame = squared_error.transpose(1, 2).flatten(2).mean(dim=2)
    unknown = (~known).to(a_frame.dtype)
    return ((a_frame * unknown).sum(1) / unknown.sum(1)).mean()
