"""Scale-invariant signal-to-noise ratio that one silent or broken clip cannot spoil (MeLoDy, section 5)."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from melody_cm.evaluation.metric import CountingMetric
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import mean_interval

FLOOR_DB = -60.0
CEILING_DB = 100.0


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


class MeanDecibel(CountingMetric):
    """The mean over clips of something in dB, over processes, with Student's interval.

    Clips with a silent target, or with anything not finite, are left out and counted.

    Args:
        silence_rms: a target with a smaller root mean square is silent.
    """

    method: str

    def __init__(self, silence_rms: float = 1e-4, level: float = 0.95) -> None:
        super().__init__()
        self.silence_rms, self.level = silence_rms, level
        self.add_sum("total", ())
        self.add_sum("squares", ())
        self.add_sum("count", (), torch.int64)

    def add(self, decibel: Float64[Tensor, " b"], judged: list[Tensor], target: Float[Tensor, "b *axes"]) -> None:
        """Add one number a clip; what it was made from decides whether the clip can be judged."""
        finite = torch.stack([x.isfinite().flatten(1).all(1) for x in (*judged, target)]).all(0)
        centred = target.double().flatten(1) - target.double().flatten(1).mean(1, keepdim=True)
        loud = centred.square().mean(1).sqrt() >= self.silence_rms
        usable = decibel[finite & loud]
        self.total += usable.sum()
        self.squares += usable.square().sum()
        self.count += len(usable)
        self.drop("silent", True, int((finite & ~loud).sum()))
        self.drop("not finite", False, int((~finite).sum()))

    def compute(self) -> Score:
        """The mean in dB; None without a usable clip."""
        n = int(self.count)
        value = self.total.item() / n if n else None
        low, high = mean_interval(self.total.item(), self.squares.item(), n, self.level)
        return Score(
            value=value,
            corrected=value if n > 1 else None,
            low=low,
            high=high,
            method=self.method,
            n_generated=n,
            n_reference=n,
            too_few=n < 2,
            dropped=self.dropped_counts(),
            level=self.level,
        )


class SISNR(MeanDecibel):
    """Mean SI-SNR of predictions in dB; waveforms (b, 1, t) or latents (b, c, *axes)."""

    higher_is_better = True
    method = "mean SI-SNR in dB over clips; Student's interval"

    def update(self, prediction: Float[Tensor, "b *axes"], target: Float[Tensor, "b *axes"]) -> None:
        """Add the clips of one batch."""
        self.add(si_snr(prediction, target), [prediction], target)


class SISNRImprovement(MeanDecibel):
    """Mean SI-SNRi in dB: SI-SNR of predictions minus that of the noisy inputs they were made from, clip by clip."""

    higher_is_better = True
    method = "mean SI-SNR improvement in dB over clips; Student's interval"

    def update(
        self,
        prediction: Float[Tensor, "b *axes"],
        noisy: Float[Tensor, "b *axes"],
        target: Float[Tensor, "b *axes"],
    ) -> None:
        """Add the clips of one batch."""
        self.add(si_snr(prediction, target) - si_snr(noisy, target), [prediction, noisy], target)
