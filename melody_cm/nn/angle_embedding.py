"""Noise level -> vector: a learned point on the arc between "clean" and "noise". MeLoDy, section 4.2.

The paper's review prints a sine on both terms, which would make one of the two vectors redundant; a slerp over a right
angle is `cos(angle) * start + sin(angle) * end`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.nn.mlp import MLP
from melody_cm.placement import Fp32Island, in_fp32


class AngleEmbedding(Fp32Island):
    """Slerp of two learned vectors, then an MLP; in fp32, where close angles differ.

    Args:
        angle_width: width of the two vectors.
        width: width of the embedding.
    """

    def __init__(self, angle_width: int, width: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(angle_width))
        self.end = nn.Parameter(torch.randn(angle_width))
        self.mlp = MLP(angle_width, width)

    def slerp(self, angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape a"]:
        """The point between `start` (angle 0) and `end` (angle pi/2)."""
        cos, sin = angle.cos().to(self.start.dtype), angle.sin().to(self.start.dtype)
        return cos[..., None] * self.start + sin[..., None] * self.end

    def forward(self, angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """Embeddings of angles (b,) or (b, l) in radians."""
        with in_fp32(angle.device):
            return self.mlp(self.slerp(angle))
