"""The Frechet distance between two Gaussians, and between two sets of clips, with its bias told (arXiv 1812.08466,
2311.01616)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from melody_cm.evaluation.score import SIDES, Score
from melody_cm.evaluation.statistics import EmbeddingStatistics, Gaussian
from melody_cm.evaluation.uncertainty import MIN_GROUPS, LeftOut, jackknife
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
    distances = []
    for other in others:
        product = root @ other.cov @ root
        cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
        squares = (fixed.mean - other.mean).square().sum()
        distances.append(squares + fixed.cov.trace() + other.cov.trace() - 2 * cross)
    return torch.stack(distances)


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


def frechet_infinity(generated: EmbeddingStatistics, reference: Gaussian, seed: int = 0) -> float | None:
    """The distance at infinitely many generated clips: linear in 1/n over subsets drawn without replacement.

    Subsets are drawn group by group, so that memory does not grow; with replacement the bias would stay. The bias
    from the reference's own size stays too, as the reference is fixed. None for clips of fewer than 8 groups.
    """
    filled = torch.tensor(generated.filled())
    if len(filled) < MIN_GROUPS_TO_EXTRAPOLATE:
        return None
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


def frechet_score(
    generated: EmbeddingStatistics, reference: EmbeddingStatistics | Gaussian, identity: EmbeddingIdentity
) -> Score:
    """The Frechet distance of generated to reference audio in one embedding space (FAD), with its bias told.

    Frames of all clips are pooled; n counts clips, because frames of one clip are not independent. The corrected value
    and its interval come from a jackknife over groups of whole pieces or prompts on both sides; `details` holds the raw
    value before it is clamped at 0, and the value extrapolated to infinitely many generated clips. With too few clips
    or pieces on a side (`is_too_few`) the value is mostly bias and not corrected; `plain_low` and `plain_high` then
    bound it at this n, which is of use beside values of the same n.

    The correction takes both sides for independent samples: of a reference against itself it is below 0.

    Args:
        reference: a Gaussian does not tell its clips, so it bounds the generated side alone.
        identity: of the embedding; distances of unlike identities must not be compared.

    Raises:
        ValueError: a side has fewer than two frames, or another width than the embedding.
    """
    told = [side for side in (generated, reference) if isinstance(side, EmbeddingStatistics)]
    gaussians = [_gaussian(side, name, identity) for side, name in zip((generated, reference), SIDES, strict=True)]
    raw = raw_distances(gaussians[1], gaussians[:1]).item()
    too_few = any(is_too_few(side) for side in told)
    # Clips fall into two groups at least, and every one may miss.
    grouped = all(len(side.filled()) > 1 and bool((side.num_frames - side.frames >= 2).all()) for side in told)
    infinity = None if too_few else frechet_infinity(generated, gaussians[1])
    known = "the reference statistics do not tell their n: only the generated side is corrected and bounded"
    warnings = {
        f"{few_words(identity.width)}: the value is mostly bias": too_few,
        "the clips fall into one group: no correction, no interval": not too_few and not grouped,
        known: len(told) == 1,
    }
    left_out = [_left_out(side, other) for side, other in zip(told, gaussians[::-1], strict=False)] if grouped else []
    details = {"raw": raw} if infinity is None else {"raw": raw, "infinity": infinity}
    if too_few and (sure := jackknife(raw, left_out)):
        half = (sure.high - sure.low) / 2
        left_out, details = [], details | {"plain_low": max(raw - half, 0.0), "plain_high": raw + half}
    score = distance_score(
        raw,
        left_out,
        (generated, reference),
        identity,
        method="Frechet distance of pooled frames; jackknife over groups of clips",
        n_generated=generated.num_clips,
        n_reference=told[1].num_clips if len(told) > 1 else None,
        too_few=too_few,
        details=details,
        warnings=[warning for warning, applies in warnings.items() if applies],
    )
    return replace(score, value=max(raw, 0.0))


def fewest_groups(width: int) -> int:
    """Pieces or prompts that a Frechet distance of that width needs on each side.

    What the jackknife leaves of the bias grows with width^3 / groups^2. Below this limit it is so much that intervals
    missed the truth in more than 8 % of simulated contests.
    """
    return max(MIN_GROUPS, math.ceil(width**1.5 / 16))


def is_too_few(side: EmbeddingStatistics) -> bool:
    """Whether a side has fewer than 2 d clips, or is of fewer pieces or prompts than `fewest_groups`."""
    return side.num_clips < 2 * side.width or side.num_pieces < fewest_groups(side.width)


def few_words(width: int) -> str:
    """What too few means, for a note."""
    return f"fewer than {2 * width} clips, or clips of fewer than {fewest_groups(width)} pieces or prompts, on a side"


def _gaussian(side: EmbeddingStatistics | Gaussian, name: str, identity: EmbeddingIdentity) -> Gaussian:
    if isinstance(side, EmbeddingStatistics):
        if side.num_frames < 2:
            raise ValueError(
                f"{side.num_frames} usable frame(s) of {name} audio, but a distance needs at least 2; add clips"
            )
        side = side.gaussian()
    if len(side.mean) != identity.width:
        raise ValueError(f"{name} statistics of width {len(side.mean)}, but {identity.name} has {identity.width}")
    return side


def _left_out(side: EmbeddingStatistics, other: Gaussian) -> LeftOut:
    """The distance to another Gaussian without each group in turn that holds clips."""
    groups, every = side.filled(), torch.arange(len(side.clips))
    return LeftOut(raw_distances(other, (side.gaussian(every != group) for group in groups)), side.clips[groups])


def distance_score(
    value: float,
    left_out: Sequence[LeftOut],
    sides: tuple[EmbeddingStatistics, EmbeddingStatistics | Gaussian],
    identity: EmbeddingIdentity,
    **more: Any,
) -> Score:
    """The result of a distance between two sides, bounded where it is known what it is without each group; `more` are
    further fields of `Score`.

    With too few clips there is no corrected value. The upper end is that of an interval of the square root (Student's,
    and a little more): estimates of a distance are skewed, and where they are too low their variance is too.
    """
    told = {name: side for name, side in zip(SIDES, sides, strict=True) if isinstance(side, EmbeddingStatistics)}
    sure = jackknife(value, left_out)
    half = (sure.high - sure.low) / 2 if sure else 0.0
    skew = half**2 / (4 * max(sure.corrected, half)) if sure and half else 0.0
    named = zip(told.items(), sure.deviations if sure else (), strict=False)
    return Score(
        value,
        None if sure is None or more["too_few"] else sure.corrected,
        sure and sure.low,
        sure and sure.high + skew,
        embedding=asdict(identity),
        groups={name: side.num_pieces for name, side in told.items()},
        deviations={
            name: {str(group): one for group, one in zip(side.filled(), found.tolist(), strict=False)}
            for (name, side), found in named
        },
        dropped={name: told[name].num_dropped() if name in told else {} for name in SIDES},
        **more,
    )
