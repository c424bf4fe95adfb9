"""How well one step of a denoiser recovers latents, by noise level (MeLoDy, arXiv 2305.15719, appendix E)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from melody_cm.diffusion import clean_from_velocity, diffuse, velocity
from melody_cm.evaluation import si_snr

NUM_ANGLES = 16
SILENCE_RMS = 1e-4  # A latent quieter than this has no signal to recover.
STATES = ("squared_error", "improvement", "usable", "silent", "not_finite")


def evaluation_angles() -> list[float]:
    """The midpoints (k - 1/2) pi / 32, k = 1 .. 16: towards angle 0 an improvement means nothing."""
    return [(k + 0.5) * math.pi / (2 * NUM_ANGLES) for k in range(NUM_ANGLES)]


def denoise_at_every_angle(
    scores: "DenoisingScores",
    places: list[int],
    latent: Float[Tensor, "b c *axes"],
    noise: Float[Tensor, "b c *axes"],
    predict: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Add what `predict(noisy latent, angle)` gives at each evaluation angle, always from the same noise."""
    for index, angle in enumerate(evaluation_angles()):
        angles = latent.new_full((len(latent),), angle)
        predicted = predict(diffuse(latent, noise, angles), angles)
        scores.update(places, index, latent, noise, predicted.float())


class DenoisingScores(Metric):
    """Velocity error and SI-SNR improvement in the latent domain of clips x angles, one angle a clip at a time.

    The improvement is that of the predicted clean latent over the noisy one. States are tables (clips, angles), so that
    means, medians and the curve over angles are those of all processes. A silent latent and anything not finite are
    left out and counted.

    Args:
        num_clips: over all processes.
    """

    full_state_update = False

    def __init__(self, num_clips: int) -> None:
        super().__init__()
        for name in STATES:
            table = torch.zeros(num_clips, NUM_ANGLES, dtype=torch.float64)
            self.add_state(name, table, dist_reduce_fx="sum")

    def update(
        self,
        places: list[int],
        angle_index: int,
        latent: Float[Tensor, "b c *axes"],
        noise: Float[Tensor, "b c *axes"],
        predicted: Float[Tensor, "b c *axes"],
    ) -> None:
        """Add the velocities that were predicted at one angle for the clips at `places`."""
        angle = latent.new_full((len(latent),), evaluation_angles()[angle_index])
        noisy = diffuse(latent, noise, angle)
        estimate = clean_from_velocity(noisy, predicted, angle)
        error = (predicted.double() - velocity(latent, noise, angle).double()).square().flatten(1).mean(1)
        finite = torch.stack([x.isfinite().flatten(1).all(1) for x in (latent, noise, predicted)]).all(0)
        loud = latent.double().square().flatten(1).mean(1).sqrt() >= SILENCE_RMS
        usable = finite & loud
        improvement = si_snr(estimate, latent) - si_snr(noisy, latent)
        self._put("squared_error", places, angle_index, torch.where(usable, error, 0.0))
        self._put("improvement", places, angle_index, torch.where(usable, improvement, 0.0))
        for name, rows in (("usable", usable), ("silent", finite & ~loud), ("not_finite", ~finite)):
            self._put(name, places, angle_index, rows.double())

    def compute(self) -> dict[str, Any]:
        """`velocity_mse` and `si_snri` (dB): means over clips and angles (None if no row is usable), `si_snri_median`;
        `n` rows used, rows left out by reason, and the curves over `angles` (radians)."""
        usable = self.usable > 0
        rows = {"n": int(usable.sum()), "silent": int(self.silent.sum()), "not_finite": int(self.not_finite.sum())}
        values = self.improvement[usable]
        curve = {
            "angles": evaluation_angles(),
            "velocity_mse_by_angle": self._by_angle(self.squared_error),
            "si_snri_by_angle": self._by_angle(self.improvement),
        }
        if not len(values):
            return {"velocity_mse": None, "si_snri": None, "si_snri_median": None, **rows, **curve}
        return {
            "velocity_mse": self.squared_error[usable].mean().item(),
            "si_snri": values.mean().item(),
            "si_snri_median": values.quantile(0.5).item(),
            **rows,
            **curve,
        }

    def _put(self, state: str, places: list[int], angle_index: int, value: Tensor) -> None:
        getattr(self, state)[places, angle_index] = value.to(self.device)

    def _by_angle(self, table: Tensor) -> list[float | None]:
        counts = self.usable.sum(0).tolist()
        return [total / n if n else None for total, n in zip(table.sum(0).tolist(), counts, strict=True)]
