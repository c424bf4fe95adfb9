"""Residual vector quantization with codebooks that follow what they quantize (SoundStream, arXiv 2107.03312, III-C)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import ResidualVQ

from melody_cm.placement import in_fp32

# A code that gets less than this share of its codebook's mean use is dead, and moves to a vector of the step.
DEAD_SHARE = 0.1


class ResidualQuantizer(nn.Module):
    """q codebooks, each of which quantizes what those before it left over.

    Codebooks are buffers: no gradient reaches them, and quantizing never changes them. `learn` moves every code to the
    running mean of the vectors that it stands for.

    Args:
        width: d of the vectors.
        num_codebooks: q.
        codebook_size: codes are 0 .. codebook_size - 1.
        decay: of the running means, a step.

    Raises:
        ValueError: fewer than 1 codebook or 2 codes, or a decay outside (0, 1).
    """

    def __init__(self, width: int, num_codebooks: int, codebook_size: int, decay: float) -> None:
        super().__init__()
        if num_codebooks < 1 or codebook_size < 2:
            raise ValueError(f"{num_codebooks} codebooks of {codebook_size} codes; give at least 1 of at least 2")
        if not 0 < decay < 1:
            raise ValueError(f"codebook decay {decay:g} must lie between 0 and 1; 0.99 is usual")
        self.layers = ResidualVQ(
            dim=width,
            num_quantizers=num_codebooks,
            codebook_size=codebook_size,
            decay=decay,
            threshold_ema_dead_code=1,
            rotation_trick=False,
            sync_codebook=False,
        )
        for layer in self.layers.layers:
            # Running sums that start empty make the first means unbiased, and unused codes move at the first step.
            layer._codebook.cluster_size.zero_()
            layer._codebook.embed_avg.zero_()
            # Codes are there from the start. Left as it is, this would read a flag at each use and wait for the GPU.
            layer._codebook.init_embed_ = _do_nothing
        self.eval()

    def train(self, mode: bool = True) -> "ResidualQuantizer":
        """Always in evaluation mode: in training mode the library's layers would learn whenever they quantize."""
        return super().train(False)

    @torch.no_grad()
    def codes(self, features: Float[Tensor, "b l d"]) -> Int[Tensor, "b q l"]:
        """The nearest code of every codebook, coarse to fine; fp32 whatever the precision around it."""
        with in_fp32(features.device):
            return self.layers(features.float())[1].transpose(1, 2)

    def partial_sums(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, "q b l d"]:
        """What the first 1, 2, ... q codebooks together stand for; q may be smaller than the number of codebooks."""
        books = self.layers.codebooks[: codes.shape[1]]
        vectors = [F.embedding(level, book) for level, book in zip(codes.unbind(1), books, strict=True)]
        return torch.stack(vectors).cumsum(0)

    @torch.no_grad()
    def learn(self, features: Float[Tensor, "n d"], seed: int) -> None:
        """One step of the running means on n vectors; dead codes move to vectors drawn with `seed`.

        Equal vectors in equal order, codebooks and seed give equal codebooks.
        """
        for layer in self.layers.layers:
            share = DEAD_SHARE * len(features) / layer.codebook_size
            layer._codebook.threshold_ema_dead_code = layer._codebook.reset_cluster_size = share
        devices = [features.device] if features.is_cuda else []
        # The library draws from the global generators, which belong to nobody and are left as they were.
        with torch.random.fork_rng(devices=devices), in_fp32(features.device):
            torch.manual_seed(seed)
            self.layers.train()
            self.layers(features.float()[None])
            self.layers.eval()


def _do_nothing(*_: object, **__: object) -> None:
    pass
