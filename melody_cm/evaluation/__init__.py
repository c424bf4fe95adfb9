"""Metrics: how near generated music is to real music, and decoded audio to its target."""

from melody_cm.evaluation.frechet import FrechetDistance, frechet_distance
from melody_cm.evaluation.resampling import embed, resample
from melody_cm.evaluation.si_snr import SISNR, mean_si_snr, mean_si_snr_improvement, si_snr

__all__ = [
    "SISNR",
    "FrechetDistance",
    "embed",
    "frechet_distance",
    "mean_si_snr",
    "mean_si_snr_improvement",
    "resample",
    "si_snr",
]
