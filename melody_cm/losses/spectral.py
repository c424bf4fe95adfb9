"""Reconstruction losses of autoencoders in the spectral domain.

Multi-resolution STFT: MeLoDy, arXiv 2305.15719, appendix B.1. Log-mel: ours, for the mel autoencoder of MusicCM.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.interfaces import Configurable
from melody_cm.signal import stft_magnitude

# Below it, magnitudes count as silence; a full-scale tone has hundreds.
MAGNITUDE_FLOOR = 1e-3


class ReconstructionLoss(Configurable, nn.Module, ABC):
    """Compares an autoencoder's output with its input, in the domain of `Reconstruction`."""

    @abstractmethod
    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Weighted scalar terms by name, of two tensors of one shape, (b, 1, t) waveforms or (b, l, f) mels."""


class MultiResolutionSTFTLoss(ReconstructionLoss):
    """L1 between linear STFT magnitudes: the mean of each resolution, summed over resolutions.

    Magnitudes are blind to phase, and silence is a local minimum of their distance. A short training leaves it only
    with a `waveform_l1_weight` that outweighs them: 100 times `weight` on music, 1000 times on sparse tones.

    Linear magnitudes hardly count what is quiet: a short training leaves hiss where the music is silent, and no
    adversary has the time to remove it. L1 between logarithms (arXiv 1910.11480, its L_mag) does.

    Args:
        fft_sizes, window_lengths, hop_lengths: samples, one entry a resolution.
        weight: of the term "stft".
        waveform_l1_weight: of the term "waveform_l1", the mean absolute difference of samples; 0 leaves it out (paper).
        log_weight: of the term "log_stft", L1 between log(magnitude + 0.001), summed as "stft" is; 0 leaves it out
            (paper).

    Raises:
        ValueError: lists of unlike lengths, or a window longer than its transform.
    """

    def __init__(
        self,
        fft_sizes: list[int],
        window_lengths: list[int],
        hop_lengths: list[int],
        weight: float = 50.0,
        waveform_l1_weight: float = 0.0,
        log_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < len(fft_sizes) == len(window_lengths) == len(hop_lengths):
            raise ValueError(
                f"{len(fft_sizes)} fft_sizes, {len(window_lengths)} window_lengths and {len(hop_lengths)} hop_lengths "
                "must be equally many and at least one; give one of each a resolution"
            )
        self.resolutions = list(zip(fft_sizes, hop_lengths, window_lengths, strict=True))
        for fft_size, _, window_length in self.resolutions:
            if window_length > fft_size:
                raise ValueError(f"window_length {window_length} exceeds its fft_size {fft_size}; shorten it")
        self.weight = weight
        self.waveform_l1_weight = waveform_l1_weight
        self.log_weight = log_weight

    def forward(self, prediction: Float[Tensor, "b 1 t"], target: Float[Tensor, "b 1 t"]) -> dict[str, Tensor]:
        magnitudes = [
            (stft_magnitude(prediction[:, 0], *resolution), stft_magnitude(target[:, 0], *resolution))
            for resolution in self.resolutions
        ]
        distances = [F.l1_loss(made, real) for made, real in magnitudes]
        terms = {"stft": self.weight * torch.stack(distances).sum()}
        if self.log_weight:
            distances = [F.l1_loss(_log(made), _log(real)) for made, real in magnitudes]
            terms["log_stft"] = self.log_weight * torch.stack(distances).sum()
        if self.waveform_l1_weight:
            terms["waveform_l1"] = self.waveform_l1_weight * F.l1_loss(prediction, target)
        return terms


def _log(magnitude: Tensor) -> Tensor:
    return (magnitude + MAGNITUDE_FLOOR).log()


class LogMelLoss(ReconstructionLoss):
    """L1 between log-mels and between their slopes along time and along frequency at several scales.

    The slopes hold onsets and harmonics sharp, which L1 alone blurs. A scale of n compares the mels after averaging
    n x n bins.

    Args:
        weight: of the term "mel_l1".
        gradient_weight: of the term "mel_gradient", the mean absolute difference of slopes, summed over the two
            directions and averaged over scales; 0 leaves it out.
        scales: how many bins are averaged, one entry a scale; None for [1, 2, 4].
    """

    def __init__(self, weight: float = 1.0, gradient_weight: float = 0.5, scales: list[int] | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.gradient_weight = gradient_weight
        self.scales = scales or [1, 2, 4]

    def forward(self, prediction: Float[Tensor, "b l f"], target: Float[Tensor, "b l f"]) -> dict[str, Tensor]:
        difference = prediction - target
        terms = {"mel_l1": self.weight * difference.abs().mean()}
        if self.gradient_weight:
            slopes = [self._slope(F.avg_pool2d(difference[:, None], scale)) for scale in self.scales]
            terms["mel_gradient"] = self.gradient_weight * sum(slopes[1:], slopes[0]) / len(slopes)
        return terms

    @staticmethod
    def _slope(difference: Float[Tensor, "b 1 l f"]) -> Float[Tensor, ""]:
        """Slopes are linear: the difference of slopes is the slope of the difference."""
        return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
