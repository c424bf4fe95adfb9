"""The symmetric contrastive loss of joint text-audio embeddings (InfoNCE; MeLoDy, arXiv 2305.15719, appendix B.3)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.interfaces import Network
from melody_cm.placement import in_fp32

MAX_SCALE = 100.0


class ContrastiveLoss(Network):
    """Cross-entropy of finding each clip's text among all texts, and each text's clip among all clips; their mean.

    Similarities are cosines over a learned temperature.

    Args:
        temperature: the one to start from; it never falls below 1 / 100, where training becomes unstable.

    Raises:
        ValueError: a temperature outside (0.01, inf).
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        if temperature < 1 / MAX_SCALE:
            raise ValueError(f"temperature {temperature:g} must be at least {1 / MAX_SCALE:g}; use e.g. 0.07")
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(
        self, audio: Float[Tensor, "b d"], text: Float[Tensor, "b d"], gather: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, ""]:
        """The loss of b pairs of unit vectors; row i of `audio` belongs to row i of `text`.

        Args:
            gather: concatenates a tensor of all processes along the batch axis, with gradient; every process then
                computes the loss of the global batch.
        """
        if gather is not None:
            audio, text = gather(audio), gather(text)
        with torch.no_grad():  # A clamp inside the graph would have no gradient that leads back from the limit.
            self.logit_scale.clamp_(max=math.log(MAX_SCALE))
        # A matrix product is what autocast takes down to bf16, where a cosine near 1 has steps of 1 / 256.
        with in_fp32(audio.device):
            similarity = self.logit_scale.exp() * audio.float() @ text.float().T
        pairs = torch.arange(len(similarity), device=similarity.device)
        return (F.cross_entropy(similarity, pairs) + F.cross_entropy(similarity.T, pairs)) / 2
