"""The Frechet distance between two Gaussians, and between two sets of clips, with its bias told (arXiv 1812.08466,
2311.01616)."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from melody_cm.evaluation.group_sums import NUM_GROUPS, Gaussian, GroupSums
from melody_cm.evaluation.metric import CountingMetric
from melody_cm.evaluation.score import SIDES, Score
from melody_cm.evaluation.statistics import EmbeddingStatistics, usable_clips
from melody_cm.evaluation.uncertainty import Jackknifed, LeftOut, jackknife
from melody_cm.interfaces import EmbeddingIdentity
from melody_cm.randomness import keyed_generator

MIN_GROUPS_TO_EXTRAPOLATE = 8
DRAWS_PER_SIZE = 2


def frechet_distance(
    mean_a: Float[Tensor, " d"],
    cov_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, " d"],
    cov_b: Float[Tensor, "d d"],
) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), in float64.

    Eigenvalues of a symmetric product keep it real without an added epsilon, for singular covariances too.
    """
    first, second = (Gaussian(mean.double(), cov.double()) for mean, cov in ((mean_a, cov_a), (mean_b, cov_b)))
    return max(raw_distances(first, [second]).item(), 0.0)


def raw_distances(fixed: Gaussian, others: Iterable[Gaussian]) -> Float64[Tensor, " g"]:
    """The distances (g,) from one Gaussian to others; rounding may leave them slightly below 0."""
    values, vectors = torch.linalg.eigh((fixed.cov + fixed.cov.T) / 2)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return torch.stack([_raw_distance(fixed, root, other) for other in others])


def _raw_distance(fixed: Gaussian, root: Float64[Tensor, "d d"], other: Gaussian) -> Float64[Tensor, ""]:
    product = root @ other.cov @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    return (fixed.mean - other.mean).square().sum() + fixed.cov.trace() + other.cov.trace() - 2 * cross


def clip_distance(frames: Float[Tensor, "l d"], reference: Gaussian) -> float:
    """The Frechet distance of one clip's frames to the reference (per-song FAD).

    A clip has few frames, so the number is mostly bias: it ranks clips of equal length, and says nothing by itself.

    Raises:
        ValueError: the clip has fewer than two frames.
    """
    count, width = frames.shape
    if count < 2:
        raise ValueError(f"a clip of {count} frame(s) has no covariance; per-song distances need at least 2 frames")
    frames = frames.double().cpu()
    mean = frames.mean(0)
    centred = (frames - mean) / (count - 1) ** 0.5
    if count > width:
        return frechet_distance(mean, centred.T @ centred, *reference)
    # The same cross term from (l, l) instead of (d, d): both products have the same eigenvalues beside zeros.
    cross = torch.linalg.eigvalsh(centred @ reference.cov @ centred.T).clamp_min(0).sqrt().sum()
    distance = (mean - reference.mean).square().sum() + centred.square().sum() + reference.cov.trace() - 2 * cross
    return max(distance.item(), 0.0)


def frechet_infinity(generated: GroupSums, reference: Gaussian, seed: int = 0) -> float:
    """The distance at infinitely many generated clips: linear in 1/n over subsets drawn without replacement.

    Subsets are drawn group by group, so that memory does not grow; with replacement the bias would stay. The bias
    from the reference's own size stays too, as the reference is fixed.

    Raises:
        ValueError: clips fall into too few groups to extrapolate.
    """
    filled = torch.tensor(generated.filled())
    if len(filled) < MIN_GROUPS_TO_EXTRAPOLATE:
        raise ValueError(f"{len(filled)} groups of clips; extrapolation needs {MIN_GROUPS_TO_EXTRAPOLATE}: add clips")
    generator = keyed_generator(seed, "frechet infinity", 0, 0)
    subsets = [
        filled[torch.randperm(len(filled), generator=generator)[:size]]
        for size in range(len(filled) // 4, len(filled) + 1)
        for _ in range(DRAWS_PER_SIZE)
    ]
    keep = [torch.isin(torch.arange(len(generated.clips)), subset) for subset in subsets]
    distances = raw_distances(reference, (generated.gaussian(mask) for mask in keep))
    counts = torch.stack([generated.clips[mask].sum() for mask in keep])
    return float(np.polyfit((1 / counts.double()).numpy(), distances.numpy(), 1)[1])


def _left_out(sums: GroupSums, other: Gaussian) -> LeftOut:
    """The distance to another Gaussian without each group in turn that holds clips."""
    groups = sums.filled()
    return LeftOut(raw_distances(other, (sums.without(group) for group in groups)), sums.clips[groups])


def _can_be_left_out(sums: GroupSums) -> bool:
    """Whether clips fall into two groups at least, and every one may miss."""
    return len(sums.filled()) > 1 and bool((sums.num_frames - sums.frames >= 2).all())


class FrechetDistance(CountingMetric):
    """The Frechet distance of generated to reference audio in one embedding space (FAD); sums over processes.

    Frames of all clips are pooled; n counts clips, because frames of one clip are not independent. The corrected value
    and its interval come from a jackknife over groups of clips on both sides; `details` holds the raw value before it
    is clamped at 0, and the value extrapolated to infinitely many generated clips. Memory does not grow with clips.

    The correction takes both sides for independent samples: of a reference against itself it is below 0.

    Args:
        identity: of the embedding; distances of unlike identities must not be compared.
        num_groups: of clips, for the jackknife.
        level: of the confidence interval.
    """

    def __init__(self, identity: EmbeddingIdentity, num_groups: int = NUM_GROUPS, level: float = 0.95) -> None:
        super().__init__()
        if num_groups < 2 or not 0 < level < 1:
            raise ValueError(
                f"num_groups is {num_groups}, level {level}; at least 2 groups, and 0 < level < 1, are needed"
            )
        self.identity, self.level = identity, level
        self._known: GroupSums | None = None
        self._known_gaussian: Gaussian | None = None
        self._known_dropped: dict[str, int] = {}
        for side in SIDES:
            self.add_sum(f"{side}_clips", (num_groups,), torch.int64)
            self.add_sum(f"{side}_frames", (num_groups,), torch.int64)
            self.add_sum(f"{side}_sum", (num_groups, identity.width))
            self.add_sum(f"{side}_outer", (num_groups, identity.width, identity.width))

    def update(self, embeddings: Float[Tensor, "b l d"], real: bool, clips: Sequence[str]) -> None:
        """Add the clips of one batch, `real` ones to the reference side.

        Args:
            clips: one id a clip, the same on every process; clips of one id (pieces of one song) are left out together.

        Raises:
            ValueError: another width than the embedding's, another number of ids than of clips, real clips beside a
                given reference.
        """
        if real and self._known_gaussian is not None:
            raise ValueError("the reference statistics were given; add no real clips to them")
        usable, ids, lost = usable_clips(embeddings.to(self.device), clips, self.identity.width)
        self.sums(real).add(usable, ids)
        self.drop_all(lost, real)

    def reference(self, statistics: EmbeddingStatistics | GroupSums | Gaussian) -> None:
        """Compare with statistics made before; they outlive `reset` and must be the same on every process.

        Raises:
            ValueError: they are of another width than the embedding's.
        """
        whole = isinstance(statistics, EmbeddingStatistics)
        sums = statistics.sums if whole else statistics
        gaussian = sums if isinstance(sums, Gaussian) else sums.cpu().gaussian()
        if len(gaussian.mean) != self.identity.width:
            width = self.identity.width
            raise ValueError(
                f"reference statistics of width {len(gaussian.mean)}, but {self.identity.name} has {width}"
            )
        self._known = None if isinstance(sums, Gaussian) else sums.cpu()
        self._known_gaussian = Gaussian(*(x.double().cpu() for x in gaussian))
        self._known_dropped = dict(statistics.dropped) if whole else {}

    def sums(self, real: bool) -> GroupSums:
        """What `update` has added to one side."""
        side = SIDES[int(real)]
        return GroupSums(*(getattr(self, f"{side}_{name}") for name in ("clips", "frames", "sum", "outer")))

    def per_clip(self, embeddings: Float[Tensor, "b l d"]) -> Float64[Tensor, " b"]:
        """The distance of every clip by itself (per-song FAD, see `clip_distance`) to the reference of this process.

        Raises:
            ValueError: a clip, or the reference, has fewer than two frames.
        """
        reference = self._gaussian(True)
        return torch.tensor([clip_distance(frames, reference) for frames in embeddings], dtype=torch.float64)

    def compute(self) -> Score:
        """The distance; with fewer than 2 d clips on a side it is mostly bias, and neither corrected nor bounded.

        Raises:
            ValueError: a side has fewer than two frames.
        """
        generated, reference = self._gaussian(False), self._gaussian(True)
        raw = raw_distances(reference, [generated]).item()
        counts = (self.sums(False).num_clips, self._num_reference())
        enough = 2 * self.identity.width
        too_few = any(count is not None and count < enough for count in counts)
        sure = None if too_few else self._jackknife(raw, generated, reference)
        return Score(
            value=max(raw, 0.0),
            corrected=sure.corrected if sure else None,
            low=sure.low if sure else None,
            high=sure.high if sure else None,
            method="Frechet distance of pooled frames; jackknife over groups of clips",
            n_generated=counts[0],
            n_reference=counts[1],
            too_few=too_few,
            embedding=asdict(self.identity),
            dropped=self.dropped_counts(self._known_dropped),
            details={"raw": raw, **self._extrapolated(reference, too_few)},
            warnings=self._warnings(too_few, sure),
            level=self.level,
        )

    def _gaussian(self, real: bool) -> Gaussian:
        if real and self._known_gaussian is not None:
            return self._known_gaussian
        sums = self.sums(real).cpu()
        if sums.num_frames < 2:
            side = SIDES[int(real)]
            raise ValueError(
                f"{sums.num_frames} usable frame(s) of {side} audio, but a distance needs at least 2; add clips"
            )
        return sums.gaussian()

    def _num_reference(self) -> int | None:
        sums = self._reference_sums()
        return sums.num_clips if sums else None

    def _reference_sums(self) -> GroupSums | None:
        """None if the reference is a Gaussian that does not tell its groups."""
        return self._known if self._known_gaussian is not None else self.sums(True).cpu()

    def _jackknife(self, raw: float, generated: Gaussian, reference: Gaussian) -> Jackknifed | None:
        pairs = [(self.sums(False).cpu(), reference), (self._reference_sums(), generated)]
        if not all(_can_be_left_out(sums) for sums, _ in pairs if sums):
            return None
        return jackknife(raw, [_left_out(sums, other) for sums, other in pairs if sums], self.level)

    def _extrapolated(self, reference: Gaussian, too_few: bool) -> dict[str, float]:
        sums = self.sums(False).cpu()
        if too_few or len(sums.filled()) < MIN_GROUPS_TO_EXTRAPOLATE:
            return {}
        return {"infinity": frechet_infinity(sums, reference)}

    def _warnings(self, too_few: bool, sure: Jackknifed | None) -> list[str]:
        known = self._known_gaussian is not None and self._known is None
        told = [
            (too_few, f"fewer than {2 * self.identity.width} clips on a side: the value is mostly bias"),
            (not too_few and sure is None, "the clips fall into one group: no correction, no interval"),
            (known, "the reference statistics do not tell their n: only the generated side is corrected and bounded"),
        ]
        return [warning for applies, warning in told if applies]
