"""Scale-invariant signal-to-noise ratio that one silent or broken clip cannot spoil (MeLoDy, section 5)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

FLOOR_DB = -60.0
CEILING_DB = 100.0


@dataclass
class SISNR:
    """value: mean over the usable clips in dB (None without any); n: usable clips; the others by reason."""

    value: float | None
    n: int
    n_silent: int
    n_nonfinite: int


def si_snr(prediction: Float[Tensor, "b 1 t"], target: Float[Tensor, "b 1 t"]) -> Float64[Tensor, " b"]:
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


def mean_si_snr(prediction: Float[Tensor, "b 1 t"], target: Float[Tensor, "b 1 t"], silence_rms: float = 1e-4) -> SISNR:
    """Mean over the clips that can be judged; silent targets and non-finite clips are left out and counted.

    Args:
        silence_rms: a target with a smaller root mean square is silent.
    """
    return _mean(si_snr(prediction, target), [prediction], target, silence_rms)


def mean_si_snr_improvement(
    prediction: Float[Tensor, "b 1 t"],
    noisy: Float[Tensor, "b 1 t"],
    target: Float[Tensor, "b 1 t"],
    silence_rms: float = 1e-4,
) -> SISNR:
    """SI-SNRi: SI-SNR of the prediction minus that of the noisy input it was made from, over the same clips."""
    return _mean(si_snr(prediction, target) - si_snr(noisy, target), [prediction, noisy], target, silence_rms)


def _mean(decibel: Float64[Tensor, " b"], judged: list[Tensor], target: Tensor, silence_rms: float) -> SISNR:
    finite = torch.stack([x.isfinite().flatten(1).all(1) for x in (*judged, target)]).all(0)
    loud = target.double().flatten(1).square().mean(1).sqrt() >= silence_rms
    usable = finite & loud
    value = decibel[usable].mean().item() if usable.any() else None
    return SISNR(value, int(usable.sum()), int((finite & ~loud).sum()), int((~finite).sum()))
