"""The Frechet distance between two Gaussians, and between two sets of embeddings (arXiv 1812.08466)."""

from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torchmetrics import Metric

from melody_cm.interfaces import EmbeddingIdentity


def frechet_distance(
    mean_a: Float[Tensor, " d"],
    cov_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, " d"],
    cov_b: Float[Tensor, "d d"],
) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), in float64.

    Eigenvalues of a symmetric product keep it real without an added epsilon, for singular covariances too.
    """
    mean_a, cov_a, mean_b, cov_b = (x.double() for x in (mean_a, cov_a, mean_b, cov_b))
    root = _square_root(cov_a)
    product = root @ cov_b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(distance.item(), 0.0)


def _square_root(cov: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


class FrechetDistance(Metric):
    """The Frechet distance of generated to reference audio in one embedding space; sums over processes.

    Frames of all clips are pooled; n counts clips, because frames of one clip are not independent. Clips with a
    non-finite embedding are left out and counted.

    Args:
        identity: of the embedding; distances of unlike identities must not be compared.
    """

    full_state_update = False

    def __init__(self, identity: EmbeddingIdentity) -> None:
        super().__init__()
        self.identity = identity
        self.width = width = identity.width
        for side in ("generated", "reference"):
            for name, shape in (("sum", (width,)), ("outer", (width, width))):
                self.add_state(f"{side}_{name}", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
            for name in ("clips", "frames", "dropped"):
                self.add_state(f"{side}_{name}", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, embeddings: Float[Tensor, "b l d"], real: bool) -> None:
        """Add the clips of one batch, `real` ones to the reference side."""
        side = "reference" if real else "generated"
        usable = embeddings.isfinite().flatten(1).all(1)
        frames = embeddings[usable].flatten(0, 1).double()
        self._add(f"{side}_sum", frames.sum(0))
        self._add(f"{side}_outer", frames.T @ frames)
        self._add(f"{side}_frames", len(frames))
        self._add(f"{side}_clips", int(usable.sum()))
        self._add(f"{side}_dropped", int((~usable).sum()))

    def compute(self) -> dict[str, Any]:
        """`value`, `n_generated` and `n_reference` in clips, `frames_*`, `dropped_*`, `too_few`, `embedding`.

        `too_few` marks fewer than 2 d clips on either side, where the value is mostly bias.

        Raises:
            ValueError: a side has fewer than two frames.
        """
        value = frechet_distance(*self._gaussian("generated"), *self._gaussian("reference"))
        counts = {"n_generated": int(self.generated_clips), "n_reference": int(self.reference_clips)}
        return {
            "value": value,
            **counts,
            "frames_generated": int(self.generated_frames),
            "frames_reference": int(self.reference_frames),
            "dropped_generated": int(self.generated_dropped),
            "dropped_reference": int(self.reference_dropped),
            "too_few": min(counts.values()) < 2 * self.width,
            "embedding": asdict(self.identity),
        }

    def _add(self, state: str, value: Tensor | int) -> None:
        setattr(self, state, getattr(self, state) + value)

    def _gaussian(self, side: str) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
        frames = int(getattr(self, f"{side}_frames"))
        if frames < 2:
            raise ValueError(f"{frames} usable frame(s) of {side} audio, but a distance needs at least 2; add clips")
        mean = getattr(self, f"{side}_sum") / frames
        cov = (getattr(self, f"{side}_outer") - frames * torch.outer(mean, mean)) / (frames - 1)
        return mean, cov
