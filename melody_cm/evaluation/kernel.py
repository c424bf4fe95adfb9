"""The kernel distance between two sets of clips, an unbiased maximum mean discrepancy (KAD, arXiv 2502.15602)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from melody_cm.evaluation.clip_sample import MAX_CLIPS, ClipSample, lowest
from melody_cm.evaluation.group_sums import NUM_GROUPS
from melody_cm.evaluation.metric import CountingMetric
from melody_cm.evaluation.score import SIDES, Score
from melody_cm.evaluation.statistics import EmbeddingStatistics, usable_clips
from melody_cm.evaluation.uncertainty import Jackknifed, LeftOut, jackknife
from melody_cm.interfaces import EmbeddingIdentity

SCALE = 100.0  # The paper's unit: values are 100 times the squared discrepancy.


def kernel_distance(
    generated: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], bandwidth: float | None = None
) -> float:
    """100 times the unbiased squared discrepancy under exp(-|x - y|^2 / (2 bandwidth^2)); around 0 for equal sources.

    Args:
        bandwidth: the median distance within the reference unless it is given.
    """
    generated, reference = generated.double(), reference.double()
    groups = (torch.zeros(len(generated), dtype=torch.int64), torch.zeros(len(reference), dtype=torch.int64))
    sums = KernelSums.of(generated, reference, bandwidth or median_distance(reference), groups, 1)
    return sums.distance(torch.ones(1), torch.ones(1)).item()


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
        return jackknife(self.distance(everything, everything).item(), sides, level)


class KernelDistance(CountingMetric):
    """The kernel distance of generated to reference audio in one embedding space (KAD).

    A clip counts as one sample, the mean of its frames: clips are independent, frames are not, and the estimate is
    unbiased for independent samples only. So it means something for few clips too, and the corrected value differs only
    where clips of one id (pieces of one song) resemble each other, which adds to the plain one. Memory is bounded by
    keeping, of each side, the `max_clips` clips whose ids hash lowest: a sample that does not depend on order or
    processes.

    Args:
        identity: of the embedding; distances of unlike identities must not be compared.
        max_clips: kept of each side.
        num_groups: of clips, for the jackknife (with the bandwidth of all clips).
        level: of the confidence interval.
    """

    def __init__(
        self,
        identity: EmbeddingIdentity,
        max_clips: int = MAX_CLIPS,
        num_groups: int = NUM_GROUPS,
        level: float = 0.95,
    ) -> None:
        super().__init__()
        if max_clips < 2 or num_groups < 2 or not 0 < level < 1:
            raise ValueError(
                f"max_clips is {max_clips}, num_groups {num_groups}, level {level}; at least 2 clips, 2 groups, and "
                "0 < level < 1, are needed"
            )
        self.identity, self.num_groups, self.level = identity, num_groups, level
        self._known: EmbeddingStatistics | None = None
        for side in SIDES:
            self.add_sum(f"{side}_clips", (), torch.int64)
            rows = ClipSample.empty(identity.width, max_clips).rows
            self.add_state(f"{side}_sample", rows, dist_reduce_fx=lowest)

    def update(self, embeddings: Float[Tensor, "b l d"], real: bool, clips: Sequence[str]) -> None:
        """Add the clips of one batch by their ids, `real` ones to the reference side.

        Raises:
            ValueError: another width than the embedding's, another number of ids than of clips, real clips beside a
                given reference.
        """
        if real and self._known is not None:
            raise ValueError("the reference statistics were given; add no real clips to them")
        usable, ids, lost = usable_clips(embeddings.to(self.device), clips, self.identity.width)
        ClipSample(getattr(self, f"{SIDES[int(real)]}_sample")).add(usable, ids)
        getattr(self, f"{SIDES[int(real)]}_clips").add_(len(ids))
        self.drop_all(lost, real)

    def reference(self, statistics: EmbeddingStatistics) -> None:
        """Compare with statistics made before; they outlive `reset` and must be the same on every process.

        Raises:
            ValueError: they are of another width than the embedding's.
        """
        if statistics.width != self.identity.width:
            width = self.identity.width
            raise ValueError(f"reference statistics of width {statistics.width}, but {self.identity.name} has {width}")
        self._known = statistics

    def compute(self) -> Score:
        """The distance. It may be below 0: it is unbiased, so where the truth is 0 it falls on both sides.

        Raises:
            ValueError: a side has fewer than two clips, or all reference clips are equal.
        """
        sides = [self._side(False), self._side(True)]
        for side, (vectors, _) in zip(SIDES, sides, strict=True):
            if len(vectors) < 2:
                raise ValueError(f"{len(vectors)} usable clip(s) of {side} audio; a kernel distance needs at least 2")
        (ours, our_keys), (theirs, their_keys) = sides
        bandwidth = median_distance(theirs)
        groups = (our_keys % self.num_groups, their_keys % self.num_groups)
        sums = KernelSums.of(ours, theirs, bandwidth, groups, self.num_groups)
        everything = torch.ones(self.num_groups)
        return self._score(sums, sums.distance(everything, everything).item(), bandwidth)

    def _score(self, sums: KernelSums, value: float, bandwidth: float) -> Score:
        counts = (int(sums.num_generated.sum()), int(sums.num_reference.sum()))
        too_few = min(counts) < 2 * self.identity.width
        sure = sums.jackknife(self.level)
        return Score(
            value=value,
            corrected=sure.corrected if sure and not too_few else None,
            low=sure.low if sure else None,
            high=sure.high if sure else None,
            method="unbiased kernel distance of clip means; jackknife over groups of clips",
            n_generated=counts[0],
            n_reference=counts[1],
            too_few=too_few,
            embedding=asdict(self.identity),
            dropped=self.dropped_counts(self._known.dropped if self._known else None),
            details={"bandwidth": bandwidth},
            warnings=self._warnings(counts),
            level=self.level,
        )

    def _side(self, real: bool) -> tuple[Float64[Tensor, "n d"], Int64[Tensor, " n"]]:
        if real and self._known is not None:
            return self._known.sample.vectors()
        return ClipSample(getattr(self, f"{SIDES[int(real)]}_sample")).vectors()

    def _warnings(self, used: tuple[int, int]) -> list[str]:
        reference = self._known.num_clips if self._known else int(self.reference_clips)
        seen = (int(self.generated_clips), reference)
        return [
            f"a sample of {few} of {all_clips} {side} clips"
            for side, few, all_clips in zip(SIDES, used, seen, strict=True)
            if few < all_clips
        ]
