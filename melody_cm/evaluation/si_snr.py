"""Scale-invariant signal-to-noise ratio that one silent or broken clip cannot spoil (MeLoDy, arXiv 2305.15719): of
waveforms (section 5), and of latents that a denoiser recovers in one step, by noise level (appendix E)."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torchmetrics import Metric

from melody_cm.diffusion import clean_from_velocity, diffuse, velocity
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import interval_of_sums

FLOOR_DB = -60.0
CEILING_DB = 100.0
SILENT_RMS = 1e-4  # A target quieter than this has no signal to recover.
NUM_ANGLES = 16


def si_snr(prediction: Float[Tensor, "b *axes"], target: Float[Tensor, "b *axes"]) -> Float64[Tensor, " b"]:
    """dB of each clip, in float64, within [-60, 100]; a silent prediction gets the floor, a silent target NaN.

    No epsilon is added, because an absolute one would break scale invariance for quiet clips.
    """
    prediction, target = (x.double().flatten(1) for x in (prediction, target))
    prediction, target = (x - x.mean(1, keepdim=True) for x in (prediction, target))
    energy = target.square().sum(1, keepdim=True)
    signal = (prediction * target).sum(1, keepdim=True) / energy * target
    ratio = signal.square().sum(1) / (prediction - signal).square().sum(1)
    decibel = torch.where(prediction.any(1), 10 * ratio.log10(), FLOOR_DB)
    return torch.where(energy[:, 0] > 0, decibel, torch.nan).clamp(FLOOR_DB, CEILING_DB)


class SISNR(Metric):
    """Mean SI-SNR of predictions in dB with Student's interval; waveforms (b, 1, t) or latents (b, c, *axes).

    Clips whose target is silent (a root mean square around its mean below 1e-4), or with anything not finite, are left
    out and counted.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "squares", "count", "silent", "not_finite"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Float[Tensor, "b *axes"], target: Float[Tensor, "b *axes"]) -> None:
        """Add the clips of one batch."""
        centred = target.double().flatten(1) - target.double().flatten(1).mean(1, keepdim=True)
        finite, loud = _all_finite(prediction, target), _rms(centred) >= SILENT_RMS
        usable = si_snr(prediction, target)[finite & loud]
        self.total += usable.sum()
        self.squares += usable.square().sum()
        self.count += len(usable)
        self.silent += (finite & ~loud).sum()
        self.not_finite += (~finite).sum()

    def compute(self) -> Score:
        """The mean in dB; None without a usable clip."""
        n, total = int(self.count), self.total.item()
        lost = {"generated": {"not finite": int(self.not_finite)}, "reference": {"silent": int(self.silent)}}
        value = total / n if n else None
        return Score(
            value,
            value if n > 1 else None,
            *interval_of_sums(total, self.squares.item(), n),
            method="mean SI-SNR in dB over clips; Student's interval",
            n_generated=n,
            n_reference=n,
            too_few=n < 2,
            dropped={side: dict(+Counter(counts)) for side, counts in lost.items()},
        )


def evaluation_angles() -> list[float]:
    """The midpoints (k - 1/2) pi / 32, k = 1 .. 16: towards angle 0 an improvement means nothing."""
    return [(k + 0.5) * math.pi / (2 * NUM_ANGLES) for k in range(NUM_ANGLES)]


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
        for name in ("error", "gain", "usable", "silent", "not_finite"):
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
        gain = si_snr(estimate, latent) - si_snr(noisy, latent)
        finite, loud = _all_finite(latent, noise, predicted), _rms(latent) >= SILENT_RMS
        usable, cell = finite & loud, (places, angle_index)
        self.error[cell] = torch.where(usable, error, 0.0).to(self.error)
        self.gain[cell] = torch.where(usable, gain, 0.0).to(self.gain)
        for table, row in ((self.usable, usable), (self.silent, finite & ~loud), (self.not_finite, ~finite)):
            table[cell] = row.to(table)

    def compute(self) -> dict[str, Any]:
        """`velocity_mse` and `si_snri` (dB): means over clips and angles (None if no row is usable), `si_snri_median`;
        `n` rows used, rows left out by reason, and the curves over `angles` (radians)."""
        usable = self.usable > 0
        known = bool(usable.any())
        return {
            "velocity_mse": self.error[usable].mean().item() if known else None,
            "si_snri": self.gain[usable].mean().item() if known else None,
            "si_snri_median": self.gain[usable].quantile(0.5).item() if known else None,
            "n": int(self.usable.sum()),
            "silent": int(self.silent.sum()),
            "not_finite": int(self.not_finite.sum()),
            "angles": evaluation_angles(),
            "velocity_mse_by_angle": self._by_angle(self.error),
            "si_snri_by_angle": self._by_angle(self.gain),
        }

    def _by_angle(self, table: Tensor) -> list[float | None]:
        counts = self.usable.sum(0).tolist()
        return [total / n if n else None for total, n in zip(table.sum(0).tolist(), counts, strict=True)]


def denoise_at_every_angle(
    scores: DenoisingScores,
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


def _all_finite(*tensors: Float[Tensor, "b *axes"]) -> Tensor:
    return torch.stack([x.isfinite().flatten(1).all(1) for x in tensors]).all(0)


def _rms(signal: Float[Tensor, "b *axes"]) -> Float64[Tensor, " b"]:
    return signal.double().square().flatten(1).mean(1).sqrt()
