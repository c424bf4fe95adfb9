"""Whether generated clips repeat training clips: cosine of the nearest ones (MusicCM, section 4.3: SIM_AA@90, @95)."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from scipy import stats
from torch import Tensor

from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import LEVEL, effective_count
from melody_cm.interfaces import EmbeddingIdentity

THRESHOLDS = (90, 95)  # Hundredths of a cosine.


def memorization(
    generated: Float[Tensor, "n d"],
    training: Iterable[Float[Tensor, "_ d"]],
    identity: EmbeddingIdentity,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Score]:
    """`sim_aa@90_<name>` and `sim_aa@95_<name>`: the share of clips whose nearest training clip is nearer than that.

    What is high depends on the embedding: compare with the share of held-back real clips, given as `generated`. Vectors
    that are 0 or not finite, like silence in some spaces, are left out.

    Args:
        generated: one vector a clip, of any length.
        training: the same of training clips, in batches that pass by, so that memory does not grow with their number.
        groups: what generated clips belong to, prompts or pieces; None: each stands for itself.

    Returns:
        Shares with Clopper and Pearson's interval for the effective number of clips; None as value without generated
        or training clips, as interval where all clips are of one group.
    """
    usable = _usable(generated).tolist()
    members = [place if groups is None else groups[place] for place, good in enumerate(usable) if good]
    generated = _directions(generated)
    nearest, count, lost = torch.full((len(generated),), -1.0, dtype=torch.float64), 0, 0
    for batch in training:
        vectors = _directions(batch)
        lost += len(batch) - len(vectors)
        count += len(vectors)
        if len(vectors):
            nearest = nearest.maximum((generated @ vectors.T).amax(1))
    dropped = {"generated": {}, "reference": {"not finite": lost} if lost else {}}
    common = {"n_reference": count, "embedding": asdict(identity), "dropped": dropped}
    return {
        f"sim_aa@{threshold}_{identity.name}": _share(nearest, members, threshold, **common) for threshold in THRESHOLDS
    }


def _usable(vectors: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
    return vectors.isfinite().all(1) & vectors.any(1)


def _directions(vectors: Float[Tensor, "n d"]) -> Float64[Tensor, "m d"]:
    return F.normalize(vectors[_usable(vectors)].double(), dim=1)


def _share(nearest: Float64[Tensor, " n"], groups: Sequence[Hashable], threshold: int, **common: Any) -> Score:
    method = f"share of clips with a training clip at a cosine above 0.{threshold}; Clopper-Pearson interval"
    near, n = (nearest > threshold / 100).double().tolist(), len(nearest)
    if not n or not common["n_reference"]:
        return Score.bare(None, method, n, too_few=True, **common)
    share, num_groups = sum(near) / n, len(set(groups))
    low, high = clopper_pearson(share, effective_count(near, groups), n, num_groups) if num_groups > 1 else (None, None)
    common |= {"details": {"mean_similarity": nearest.mean().item()}, "groups": {"generated": num_groups}}
    return Score(share, share, low, high, method, n, too_few=low is None, **common)


def clopper_pearson(share: float, count: float, clips: int, groups: int) -> tuple[float, float]:
    """The exact interval of a share (1934) for an effective count of clips that come in groups, from which the variance
    is known only so well (Korn and Graubard, 1998)."""
    level = (1 + LEVEL) / 2
    count *= (stats.t.ppf(level, max(clips - 1, 1)) / stats.t.ppf(level, max(groups - 1, 1))) ** 2
    hits = share * count
    low = stats.beta.ppf(1 - level, hits, count - hits + 1) if hits > 0 else 0.0
    high = stats.beta.ppf(level, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)
