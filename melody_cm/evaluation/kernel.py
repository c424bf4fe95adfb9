"""The kernel distance between two sets of clips, an unbiased maximum mean discrepancy (KAD, arXiv 2502.15602)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from melody_cm.evaluation.metric import distance_score
from melody_cm.evaluation.score import SIDES, Score
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.evaluation.uncertainty import Jackknifed, LeftOut, jackknife
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


@dataclass
class KernelSums:
    """Sums of the kernel over pairs of clips, by the groups of both clips; no clip is paired with itself.

    Attributes:
        generated, reference: (g, g) pairs within a side; across: (g, g) of a generated and a reference clip.
        num_generated, num_reference: (g,) clips in each group.
    """

    generated: Float64[Tensor, "g g"]
    reference: Float64[Tensor, "g g"]
    across: Float64[Tensor, "g g"]
    num_generated: Int64[Tensor, " g"]
    num_reference: Int64[Tensor, " g"]

    @classmethod
    def of(
        cls,
        generated: Float64[Tensor, "n d"],
        reference: Float64[Tensor, "m d"],
        bandwidth: float,
        groups: tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]],
        num_groups: int,
    ) -> "KernelSums":
        """The sums of two sets of clips, whose `groups` are given for each side."""
        ours, theirs = (F.one_hot(group, num_groups).double() for group in groups)
        # Distances come from squares, which cancel badly far from the origin.
        generated, reference = generated - reference.mean(0), reference - reference.mean(0)

        def kernel(first: Tensor, second: Tensor) -> Tensor:
            return torch.exp(-torch.cdist(first, second).square() / (2 * bandwidth**2))

        return cls(
            ours.T @ kernel(generated, generated).fill_diagonal_(0) @ ours,
            theirs.T @ kernel(reference, reference).fill_diagonal_(0) @ theirs,
            ours.T @ kernel(generated, reference) @ theirs,
            ours.sum(0).long(),
            theirs.sum(0).long(),
        )

    def distance(self, ours: Float[Tensor, " g"], theirs: Float[Tensor, " g"]) -> Float64[Tensor, ""]:
        """Of the groups that have weight 1 (those of weight 0 are left out) on each side."""
        ours, theirs = ours.double(), theirs.double()
        n, m = ours @ self.num_generated.double(), theirs @ self.num_reference.double()
        within = ours @ self.generated @ ours / (n * (n - 1)) + theirs @ self.reference @ theirs / (m * (m - 1))
        return SCALE * (within - 2 * (ours @ self.across @ theirs) / (n * m))

    def whole_distance(self) -> float:
        """The distance of all groups."""
        everything = torch.ones(len(self.across))
        return self.distance(everything, everything).item()

    def jackknife(self, level: float) -> Jackknifed | None:
        """The distance with its interval; None if a side has one group, or could be left with fewer than two clips."""
        everything = torch.ones(len(self.across))
        sizes = (self.num_generated, self.num_reference)
        if any(len(size.nonzero()) < 2 or (size.sum() - size).min() < 2 for size in sizes):
            return None
        ours, theirs = (size.nonzero()[:, 0] for size in sizes)
        without = 1 - torch.eye(len(self.across))
        sides = [
            LeftOut(torch.stack([self.distance(without[group], everything) for group in ours]), sizes[0][ours]),
            LeftOut(torch.stack([self.distance(everything, without[group]) for group in theirs]), sizes[1][theirs]),
        ]
        return jackknife(self.whole_distance(), sides, level)


def kernel_score(
    generated: EmbeddingStatistics, reference: EmbeddingStatistics, identity: EmbeddingIdentity, level: float = 0.95
) -> Score:
    """The kernel distance of generated to reference audio in one embedding space (KAD).

    A clip counts as one sample, the mean of its frames: clips are independent, frames are not, and the estimate is
    unbiased for independent samples only. So it means something for few clips too, and the corrected value differs only
    where clips of one id (pieces of one song) resemble each other, which adds to the plain one. It may be below 0:
    where the truth is 0 it falls on both sides. Of many clips only the sample of each side is compared.

    Args:
        identity: of the embedding; distances of unlike identities must not be compared.
        level: of the confidence interval (a jackknife over groups of clips, with the bandwidth of all clips).

    Raises:
        ValueError: a side has fewer than two clips, or all reference clips are equal.
    """
    (ours, our_keys), (theirs, their_keys) = generated.vectors(), reference.vectors()
    counts = (len(ours), len(theirs))
    for side, count in zip(SIDES, counts, strict=True):
        if count < 2:
            raise ValueError(f"{count} usable clip(s) of {side} audio; a kernel distance needs at least 2")
    bandwidth, num_groups = median_distance(theirs), len(generated.clips)
    sums = KernelSums.of(ours, theirs, bandwidth, (our_keys % num_groups, their_keys % num_groups), num_groups)
    sure, too_few = sums.jackknife(level), min(counts) < 2 * identity.width
    seen = (generated.num_clips, reference.num_clips)
    return distance_score(
        sums.whole_distance(),
        sure,
        (generated, reference),
        identity,
        method="unbiased kernel distance of clip means; jackknife over groups of clips",
        n_generated=counts[0],
        n_reference=counts[1],
        too_few=too_few,
        details={"bandwidth": bandwidth},
        warnings=[
            f"a sample of {few} of {every} {side} clips"
            for side, few, every in zip(SIDES, counts, seen, strict=True)
            if few < every
        ],
        level=level,
    )
