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


def kernel_distance(
    generated: Float64[Tensor, "n d"],
    reference: Float64[Tensor, "m d"],
    bandwidth: float,
    groups: tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]],
    num_groups: int,
) -> tuple[float, list[LeftOut]]:
    """The distance of all clips, and those without each group for a jackknife; no clip is paired with itself.

    Args:
        generated, reference: the clips' vectors.
        bandwidth: of the Gaussian kernel.
        groups: of each clip, for each side, below `num_groups`.

    Returns:
        No distances without a group if a side has one group, or could be left with fewer than two clips.
    """
    ours, theirs = (F.one_hot(group, num_groups).double() for group in groups)
    # Distances come from squares, which cancel badly far from the origin.
    generated, reference = generated - reference.mean(0), reference - reference.mean(0)

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(first, second).square() / (2 * bandwidth**2))

    # The kernel summed over pairs of clips, by the groups of both.
    of_generated = ours.T @ kernel(generated, generated).fill_diagonal_(0) @ ours
    of_reference = theirs.T @ kernel(reference, reference).fill_diagonal_(0) @ theirs
    across = ours.T @ kernel(generated, reference) @ theirs
    sizes = (ours.sum(0), theirs.sum(0))

    def distances(first: Tensor, second: Tensor) -> Tensor:
        """Of the groups that have weight 1 (those of weight 0 are left out) on each side."""
        n, m = first @ sizes[0], second @ sizes[1]
        within = (first @ of_generated * first).sum(-1) / (n * (n - 1))
        within = within + (second @ of_reference * second).sum(-1) / (m * (m - 1))
        return SCALE * (within - 2 * (first @ across * second).sum(-1) / (n * m))

    everything = torch.ones(num_groups, dtype=torch.float64)
    value = distances(everything, everything).item()
    if any(len(size.nonzero()) < 2 or (size.sum() - size).min() < 2 for size in sizes):
        return value, []
    without = everything - torch.eye(num_groups)
    filled = [size.nonzero()[:, 0] for size in sizes]
    return value, [
        LeftOut(distances(without[filled[0]], everything), sizes[0][filled[0]]),
        LeftOut(distances(everything, without[filled[1]]), sizes[1][filled[1]]),
    ]


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
    groups = (our_keys % num_groups, their_keys % num_groups)
    value, left_out = kernel_distance(ours, theirs, bandwidth, groups, num_groups)
    return distance_score(
        value,
        left_out,
        (generated, reference),
        identity,
        method="unbiased kernel distance of clip means; jackknife over groups of clips",
        n_generated=len(ours),
        n_reference=len(theirs),
        too_few=min(generated.num_pieces, reference.num_pieces) < MIN_GROUPS,
        details={"bandwidth": bandwidth},
        warnings=[f"a sample of {few} of {every} {side} clips" for side, (few, every) in counts.items() if few < every],
    )
