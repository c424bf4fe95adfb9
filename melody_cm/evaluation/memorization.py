"""Whether generated clips repeat training clips: cosine of the nearest ones (MusicCM, section 4.3: SIM_AA@90, @95)."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from scipy import stats
from torch import Tensor

from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import LEVEL
from melody_cm.interfaces import EmbeddingIdentity

THRESHOLDS = (90, 95)  # Hundredths of a cosine.


def memorization(
    generated: Float[Tensor, "n d"], training: Iterable[Float[Tensor, "_ d"]], identity: EmbeddingIdentity
) -> dict[str, Score]:
    """`sim_aa@90_<name>` and `sim_aa@95_<name>`: the share of clips whose nearest training clip is nearer than that.

    What is high depends on the embedding: compare with the share of held-back real clips, given as `generated`. Vectors
    that are 0 or not finite, like silence in some spaces, are left out.

    Args:
        generated: one vector a clip, of any length.
        training: the same of training clips, in batches that pass by, so that memory does not grow with their number.

    Returns:
        Shares with their exact (Clopper-Pearson) intervals; None as value without generated or training clips.
    """
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
    return {f"sim_aa@{threshold}_{identity.name}": _share(nearest, threshold, **common) for threshold in THRESHOLDS}


def _directions(vectors: Float[Tensor, "n d"]) -> Float64[Tensor, "m d"]:
    return F.normalize(vectors[vectors.isfinite().all(1) & vectors.any(1)].double(), dim=1)


def _share(nearest: Float64[Tensor, " n"], threshold: int, **common: Any) -> Score:
    method = f"share of clips with a training clip at a cosine above 0.{threshold}; Clopper-Pearson interval"
    n, hits = len(nearest), int((nearest > threshold / 100).sum())
    if not n or not common["n_reference"]:
        return Score(None, None, None, None, method, n, too_few=True, **common)
    interval = stats.binomtest(hits, n).proportion_ci(LEVEL, method="exact")
    low, high, details = float(interval.low), float(interval.high), {"mean_similarity": nearest.mean().item()}
    return Score(hits / n, hits / n, low, high, method, n, too_few=False, details=details, **common)
