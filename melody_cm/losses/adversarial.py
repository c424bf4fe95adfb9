"""Adversarial losses: what a discriminator learns from, and what a generator learns from it.

Least squares: Mao et al., arXiv 1611.04076, as in HiFi-GAN (arXiv 2010.05646, section 2.3). Hinge with R1 at the heads'
inputs: MusicCM (arXiv 2404.13358, equations 7 and 8), after adversarial diffusion distillation (arXiv 2311.17042, 3.2).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from melody_cm.interfaces import AdversarialLoss, DiscriminatorOutput, DiscriminatorOutputs


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
        self.compares = feature_matching_weight != 0

    def discriminator(
        self, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
    ) -> dict[str, Tensor]:
        return {
            "real": torch.stack([(output.logits - 1).square().mean() for output in real]).sum(),
            "fake": torch.stack([output.logits.square().mean() for output in fake]).sum(),
        }

    def generator(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs) -> dict[str, Tensor]:
        distances = torch.stack([(output.logits - 1).square().mean() for output in fake])
        terms = {"adversarial": self.weight * distances.sum()}
        if self.feature_matching_weight:
            terms["feature_matching"] = self.feature_matching_weight * feature_distance(real, fake)
        return terms


class HingeLoss(AdversarialLoss):
    """Real is above 1, generated below -1; a generator raises its logits without end.

    Args:
        weight: of the generator's term "adversarial".
        r1_weight: of the discriminator's term "r1" on real samples: see `gradient_penalty`.
        heads: what is made of the generator's terms of several heads: their mean, or their sum as in the paper. The
            discriminator's are means: each head learns alone, and Adam does not heed the scale.
    """

    compares = False

    def __init__(self, weight: float = 0.1, r1_weight: float = 1e-5, heads: Literal["mean", "sum"] = "mean") -> None:
        self.weight = weight
        self.r1_weight = r1_weight
        self.over_heads = {"mean": torch.mean, "sum": torch.sum}[heads]

    def discriminator(
        self, real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
    ) -> dict[str, Tensor]:
        terms = {
            "real": torch.stack([F.relu(1 - output.logits).mean() for output in real]).mean(),
            "fake": torch.stack([F.relu(1 + output.logits).mean() for output in fake]).mean(),
        }
        if self.r1_weight:
            terms["r1"] = self.r1_weight * torch.stack([gradient_penalty(output) for output in real]).mean()
        return terms

    def generator(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs) -> dict[str, Tensor]:
        return {"adversarial": -self.weight * self.over_heads(torch.stack([output.logits.mean() for output in fake]))}


def gradient_penalty(output: DiscriminatorOutput) -> Float[Tensor, ""]:
    """R1: the squared norm of the gradient of a clip's summed logits by the feature maps, the mean over clips.

    The features must be leaves that ask for a gradient, so that it ends at the head's input.
    """
    gradients = torch.autograd.grad(output.logits.sum(), output.feature_maps, create_graph=True)
    return torch.stack([gradient.float().square().flatten(1).sum(1) for gradient in gradients]).sum(0).mean()


def feature_distance(real: DiscriminatorOutputs, fake: DiscriminatorOutputs) -> Float[Tensor, ""]:
    """L1 between hidden features: the mean over each discriminator's layers, summed over discriminators."""
    distances = []
    for ours, theirs in zip(fake, real, strict=True):
        layers = [F.l1_loss(a, b.detach()) for a, b in zip(ours.feature_maps, theirs.feature_maps, strict=True)]
        distances.append(torch.stack(layers).mean())
    return torch.stack(distances).sum()
