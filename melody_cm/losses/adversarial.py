"""Adversarial losses: what a discriminator learns from, and what a generator learns from it.

Least squares: Mao et al., arXiv 1611.04076, as in HiFi-GAN (arXiv 2010.05646, section 2.3).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AdversarialLoss, Judgement


class LeastSquaresLoss(AdversarialLoss):
    """Real is 1, generated is 0; a generator also matches the features that real music gives.

    Each discriminator's terms are means over its outputs; discriminators are summed.

    Args:
        weight: of the generator's term "adversarial".
        feature_matching_weight: of its term "feature_matching": L1 between features, the mean over hidden layers.
    """

    def __init__(self, weight: float = 1.0, feature_matching_weight: float = 20.0) -> None:
        self.weight = weight
        self.feature_matching_weight = feature_matching_weight

    def discriminator(self, real: Sequence[Judgement], fake: Sequence[Judgement]) -> dict[str, Tensor]:
        return {
            "real": _sum([(judgement.logits - 1).square().mean() for judgement in real]),
            "fake": _sum([judgement.logits.square().mean() for judgement in fake]),
        }

    def generator(self, real: Sequence[Judgement], fake: Sequence[Judgement]) -> dict[str, Tensor]:
        terms = {"adversarial": self.weight * _sum([(judgement.logits - 1).square().mean() for judgement in fake])}
        if self.feature_matching_weight:
            terms["feature_matching"] = self.feature_matching_weight * feature_distance(real, fake)
        return terms


def feature_distance(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, ""]:
    """L1 between hidden features: the mean over each discriminator's layers, summed over discriminators."""
    distances = []
    for ours, theirs in zip(fake, real, strict=True):
        layers = [F.l1_loss(a, b.detach()) for a, b in zip(ours.features, theirs.features, strict=True)]
        distances.append(torch.stack(layers).mean())
    return _sum(distances)


def _sum(terms: Sequence[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(list(terms)).sum()
