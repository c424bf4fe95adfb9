"""The two-layer perceptron that ends in a norm. MeLoDy, section 4.2: `RMSNorm(W2 GELU(W1 x + b1) + b2)`."""

from jaxtyping import Float
from torch import Tensor, nn

from melody_cm.placement import keep_fp32


class MLP(nn.Module):
    """Linear, GELU, Linear, RMSNorm on the last axis.

    Args:
        in_width: width of the input.
        width: width of the hidden layer and of the output.
    """

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_width, width), nn.GELU(), nn.Linear(width, width), keep_fp32(nn.RMSNorm(width, eps=1e-6))
        )

    def forward(self, x: Float[Tensor, "*rows i"]) -> Float[Tensor, "*rows o"]:
        """(*, in_width) -> (*, width), of root mean square about 1."""
        return self.layers(x)
