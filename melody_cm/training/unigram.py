"""The least a language model must beat: codes drawn one by one by how often each was seen."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class UnigramModel(nn.Module):
    """How often each code of each codebook was seen, as a model of codes; every code counts one more than it was seen,
    so that an unseen one has a price too.

    Args:
        num_codebooks: q.
        codebook_size: codes are 0 .. codebook_size - 1.
    """

    counts: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(num_codebooks, codebook_size, dtype=torch.long))

    def count(self, codes: Int[Tensor, "b q l"]) -> None:
        """Take codes into account."""
        for counts, seen in zip(self.counts, codes.unbind(1), strict=True):
            counts += torch.bincount(seen.flatten(), minlength=len(counts))

    def surprise(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, ""]:
        """The mean negative log-likelihood of codes (nats a code)."""
        shares = (self.counts + 1) / (self.counts + 1).sum(dim=1, keepdim=True)
        prices = -shares.log()
        return torch.stack([price[seen] for price, seen in zip(prices, codes.unbind(1), strict=True)]).mean()
