"""The kernel distance between two sets of clips, an unbiased maximum mean discrepancy (KAD, arXiv 2502.15602)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from torch import Tensor

from melody_cm.evaluation.frechet import distance_score
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.evaluation.uncertainty import MIN_GROUPS, LeftOut
from melody_cm.interfaces import EmbeddingIdentity

SCALE = 100.0  # The paper's unit: values are 100 times the squared discrepancy.


def median_distance(vectors: Float64[Tensor, "n d"]) -> float:
    """The median (the lower of the two middle ones) of the distances between two of the vectors.

    Raises:
        ValueError: it is 0, so that no kernel can be as wide.
    """
    median = F.pdist(vectors).median().item() if len(vectors) > 1 else 0.0
    if median == 0:
        raise ValueError(f"most of the {len(vectors)} reference clips are equal; a kernel needs clips that differ")
    return median


class KernelSums:
    """The kernel summed over pairs of clips, by the groups (g,) of both; no clip is paired with itself.

    Args:
        generated, reference: the clips' vectors.
        bandwidth: of the Gaussian kernel.
        groups: of each clip, for each side, below `num_groups`.

    Attributes:
        sizes: (g,) clips in each group, for each side.
    """

    def __init__(
        self,
        generated: Float64[Tensor, "n d"],
        reference: Float64[Tensor, "m d"],
        bandwidth: float,
        groups: tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]],
        num_groups: int,
    ) -> None:
        ours, theirs = (F.one_hot(group, num_groups).double() for group in groups)
        # Distances come from squares, which cancel badly far from the origin.
        generated, reference = generated - reference.mean(0), reference - reference.mean(0)

        def kernel(first: Tensor, second: Tensor) -> Tensor:
            return torch.exp(-torch.cdist(first, second).square() / (2 * bandwidth**2))

        self.sizes = (ours.sum(0), theirs.sum(0))
        self._generated = ours.T @ kernel(generated, generated).fill_diagonal_(0) @ ours
        self._reference = theirs.T @ kernel(reference, reference).fill_diagonal_(0) @ theirs
        self._across = ours.T @ kernel(generated, reference) @ theirs

    def distance(self) -> float:
        """The distance of all clips."""
        everything = torch.ones_like(self.sizes[0])
        return self._distances(everything, everything).item()

    def without_each_group(self) -> list[LeftOut]:
        """Distances for a jackknife; nothing if a side has one group, or could be left with fewer than two clips."""
        if any(len(size.nonzero()) < 2 or (size.sum() - size).min() < 2 for size in self.sizes):
            return []
        everything = torch.ones_like(self.sizes[0])
        without = everything - torch.eye(len(everything))
        ours, theirs = (size.nonzero()[:, 0] for size in self.sizes)
        return [
            LeftOut(self._distances(without[ours], everything), self.sizes[0][ours]),
            LeftOut(self._distances(everything, without[theirs]), self.sizes[1][theirs]),
        ]

    def _distances(self, ours: Float64[Tensor, "*k g"], theirs: Float64[Tensor, "*l g"]) -> Float64[Tensor, "*m"]:
        """Of the groups that have weight 1 (those of weight 0 are left out) on each side."""
        n, m = ours @ self.sizes[0], theirs @ self.sizes[1]
        within = (ours @ self._generated * ours).sum(-1) / (n * (n - 1))
        within = within + (theirs @ self._reference * theirs).sum(-1) / (m * (m - 1))
        return SCALE * (within - 2 * (ours @ self._across * theirs).sum(-1) / (n * m))


def kernel_score(generated: EmbeddingStatistics, reference: EmbeddingStatistics, identity: EmbeddingIdentity) -> Score:
    """The kernel distance of generated to reference audio in one embedding space (KAD).

    A clip counts as one sample, the mean of its frames: clips are independent, frames are not, and the estimate is
    unbiased for independent samples only. So it means something for few clips too, and the corrected value differs only
    where clips of one id (pieces of one song) resemble each other, which adds to the plain one. It may be below 0:
    where the truth is 0 it falls on both sides. Of many clips only the sample of each side is compared. The interval is
    that of a jackknife over groups of whole pieces or prompts, with the bandwidth of all clips; it needs 8 of them.

    Args:
        identity: of the embedding; distances of unlike identities must not be compared.

    Raises:
        ValueError: a side has fewer than two clips, or all reference clips are equal.
    """
    (ours, our_keys), (theirs, their_keys) = generated.vectors(), reference.vectors()
    counts = {"generated": (len(ours), generated.num_clips), "reference": (len(theirs), reference.num_clips)}
    for side, (count, _) in counts.items():
        if count < 2:
            raise ValueError(f"{count} usable clip(s) of {side} audio; a kernel distance needs at least 2")
    bandwidth, num_groups = median_distance(theirs), len(generated.clips)
    sums = KernelSums(ours, theirs, bandwidth, (our_keys % num_groups, their_keys % num_groups), num_groups)
    value = sums.distance()
    return distance_score(
        value,
        sums.without_each_group(),
        (generated, reference),
        identity,
        method="unbiased kernel distance of clip means; jackknife over groups of clips",
        n_generated=len(ours),
        n_reference=len(theirs),
        too_few=min(generated.num_pieces, reference.num_pieces) < MIN_GROUPS,
        details={"bandwidth": bandwidth},
        warnings=[f"a sample of {few} of {every} {side} clips" for side, (few, every) in counts.items() if few < every],
    )
