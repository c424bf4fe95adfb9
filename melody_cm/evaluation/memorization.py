"""Whether generated clips repeat training clips: cosine of the nearest ones (MusicCM, section 4.3: SIM_AA@90, @95)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.metric import ScoreMetric
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.uncertainty import share_interval
from melody_cm.interfaces import EmbeddingIdentity

THRESHOLDS = (90, 95)  # Hundredths of a cosine.
CHUNK = 4096


class Memorization(ScoreMetric):
    """Share of the generated clips whose nearest training clip has a cosine above 0.90, and above 0.95.

    The generated clips are held, the training clips pass by in chunks, so memory does not grow with the training set.
    What is high depends on the embedding: compare with the share of held-back real clips, given as `generated`.

    Attributes:
        similarity: (n,) cosine of each generated clip to its nearest training clip; -1 before any was seen.
        nearest: the ids of those clips, as far as this process has seen them; empty before any was seen.

    Args:
        identity, level: as in `ScoreMetric`; the interval is the exact binomial one.
        generated: (n, d) one vector a clip, of any length.

    Raises:
        ValueError: another width than the embedding's, or vectors without a direction.
    """

    def __init__(self, identity: EmbeddingIdentity, generated: Float[Tensor, "n d"], level: float = 0.95) -> None:
        super().__init__(identity, level)
        self.check_width(generated.shape[1])
        if not (generated.isfinite().all() and generated.any(1).all()):
            raise ValueError("generated vectors are 0 or not finite; leave those clips out")
        self.register_buffer("generated", _unit(generated), persistent=False)
        self.nearest = [""] * len(generated)
        self.add_state("similarity", torch.full((len(generated),), -1.0, dtype=torch.float64), dist_reduce_fx="max")
        self.add_sum("count", dtype=torch.int64)

    def update(self, training: Float[Tensor, "b d"], clips: Sequence[str]) -> None:
        """Look among training clips, one vector and one id each; those that are not finite are left out and counted.

        Raises:
            ValueError: another width than the embedding's, or another number of ids than of clips.
        """
        self.check_width(training.shape[1])
        if len(clips) != len(training):
            raise ValueError(f"{len(clips)} clip ids for {len(training)} training clips; give one id a clip")
        usable = training.isfinite().all(1) & training.any(1)
        self.drop("not finite", True, int((~usable).sum()))
        rows = usable.nonzero()[:, 0].tolist()
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            self._look(_unit(training[chunk].to(self.generated.device)), [clips[row] for row in chunk])

    def reset(self) -> None:
        """Forget the training clips; the generated ones stay."""
        super().reset()
        self.nearest = [""] * len(self.nearest)

    def compute(self) -> dict[str, Score]:
        """The shares, `sim_aa@90` and `sim_aa@95`; None as value without generated or training clips."""
        return {f"sim_aa@{threshold}": self._share(threshold) for threshold in THRESHOLDS}

    def _look(self, training: Float[Tensor, "b d"], clips: Sequence[str]) -> None:
        similarity, index = (self.generated @ training.T).max(1)
        closer = similarity > self.similarity
        self.similarity.copy_(torch.where(closer, similarity, self.similarity))
        for row in closer.nonzero()[:, 0].tolist():
            self.nearest[row] = clips[int(index[row])]
        self.count += len(clips)

    def _share(self, threshold: int) -> Score:
        n, training = len(self.similarity), int(self.count)
        known = n > 0 and training > 0
        hits = int((self.similarity > threshold / 100).sum())
        return self.score(
            hits / n if known else None,
            share_interval(hits, n, self.level) if known else (None, None),
            method=f"share of clips with a training clip at a cosine above 0.{threshold}; Clopper-Pearson interval",
            n_generated=n,
            n_reference=training,
            too_few=not known,
            details={"mean_similarity": self.similarity.mean().item()} if known else {},
        )


def _unit(vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    return torch.nn.functional.normalize(vectors.double(), dim=1)
