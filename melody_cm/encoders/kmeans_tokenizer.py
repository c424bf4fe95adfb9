"""k-means of frames: one code for each z-normalized feature vector (MeLoDy, arXiv 2305.15719, appendix B.2)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from melody_cm.encoders.clustering import fit_centroids, nearest
from melody_cm.interfaces import Tokenizer


class KMeansTokenizer(Tokenizer):
    """One code a frame: the nearest of k centroids of z-normalized features; subclasses say what the features are.

    Args:
        codebook_size: k.
        width: d of the features.
    """

    num_codebooks = 1
    mean: Tensor
    std: Tensor
    centroids: Tensor
    fitted: Tensor

    def __init__(self, codebook_size: int, width: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("centroids", torch.zeros(codebook_size, width))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, features: Float[Tensor, "n d"], seed: int) -> None:
        mean, std = features.mean(0), features.std(0).clamp(min=1e-5)
        self.centroids.copy_(fit_centroids((features - mean) / std, self.codebook_size, seed))
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.fitted.fill_(True)

    def quantize(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b 1 l"]:
        check_fitted(self)
        return nearest((features.float() - self.mean) / self.std, self.centroids)[:, None]

    def dequantize(self, codes: Int[Tensor, "b 1 l"]) -> Float[Tensor, "b l d"]:
        check_fitted(self)
        return self.centroids[codes[:, 0]] * self.std + self.mean


def check_fitted(tokenizer: Tokenizer) -> None:
    """Refuse to use a tokenizer by k-means whose buffer `fitted` says that its codebooks were not chosen yet.

    Raises:
        ValueError: they were not.
    """
    if not tokenizer.fitted:
        raise ValueError(
            f"{type(tokenizer).__name__} has no codebooks yet; call fit, or train its recipe and load the result"
        )
