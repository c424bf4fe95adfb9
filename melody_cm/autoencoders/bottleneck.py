"""The Gaussian bottleneck of the variational autoencoders (Kingma and Welling, arXiv 1312.6114)."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

# exp of half of these is a standard deviation that neither vanishes nor overflows in fp32.
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class DiagonalGaussian(NamedTuple):
    """A posterior with independent elements: `mean` and `std`, both (b, c, *axes)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def from_parameters(cls, parameters: Float[Tensor, "b two_c *axes"]) -> "DiagonalGaussian":
        """From a network's output: the first half of the channels is the mean, the second the log-variance; in fp32."""
        mean, log_variance = parameters.float().chunk(2, dim=1)
        return cls(mean, (log_variance.clamp(*LOG_VARIANCE_RANGE) / 2).exp())

    def sample(self, noise: Float[Tensor, "b c *axes"]) -> Float[Tensor, "b c *axes"]:
        """The sample that standard normal noise stands for; gradients reach mean and std."""
        return self.mean + self.std * noise

    def kl(self) -> Float[Tensor, " b"]:
        """The divergence from N(0, I) of each row, summed over channels and averaged over positions."""
        divergence = (self.mean.square() + self.std.square() - 1) / 2 - self.std.log()
        return divergence.sum(dim=1).flatten(1).mean(dim=1)
