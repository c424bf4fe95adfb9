"""What metrics share: states that sum over processes, and an account of the clips that were left out."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from melody_cm.evaluation.score import REASONS, SIDES, Score
from melody_cm.evaluation.statistics import EmbeddingStatistics, Gaussian
from melody_cm.evaluation.uncertainty import Jackknifed
from melody_cm.interfaces import EmbeddingIdentity


class ScoreMetric(Metric):
    """A metric whose result is a `Score`; it counts, by side and reason, the clips that it could not use.

    Args:
        identity: of the embedding it measures in, None for a metric without one; values of unlike identities must not
            be compared.
        level: of the confidence interval.
    """

    full_state_update = False
    dropped: Tensor

    def __init__(self, identity: EmbeddingIdentity | None = None, level: float = 0.95) -> None:
        # A cached result would miss what `drop` counts after it.
        super().__init__(compute_with_cache=False)
        self.identity, self.level = identity, level
        self.add_sum("dropped", (len(SIDES), len(REASONS)), torch.int64)

    def add_sum(self, name: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> None:
        """Add a state of zeros that sums over processes."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def drop(self, reason: str, real: bool = False, count: int = 1) -> None:
        """Count clips that never reach `update`; a reason that is not in `REASONS` counts as "other"."""
        column = REASONS.index(reason if reason in REASONS else "other")
        self.dropped[int(real), column] += count

    def check_width(self, width: int) -> None:
        """Refuse, with ValueError, another width than the embedding's."""
        if width != self.identity.width:
            raise ValueError(f"vectors of width {width}, but {self.identity.name} has {self.identity.width}")

    def score(self, value: float | None, interval: tuple[float | None, float | None], **more: Any) -> Score:
        """A result without bias to correct; `more` are further fields of `Score`."""
        rows: list[Any] = self.dropped.tolist()
        dropped = {
            side: {reason: count for reason, count in zip(REASONS, row, strict=True) if count}
            for side, row in zip(SIDES, rows, strict=True)
        }
        corrected = None if more["too_few"] else value
        embedding = asdict(self.identity) if self.identity else None
        common = {"embedding": embedding, "dropped": dropped, "level": self.level}
        return Score(value, corrected, *interval, **common, **more)


def distance_score(
    value: float,
    sure: Jackknifed | None,
    sides: tuple[EmbeddingStatistics, EmbeddingStatistics | Gaussian],
    identity: EmbeddingIdentity,
    **more: Any,
) -> Score:
    """The result of a distance between two sides, bounded where `sure` is known; `more` are further fields of `Score`.

    With too few clips there is no corrected value.
    """
    return Score(
        value=value,
        low=sure.low if sure else None,
        high=sure.high if sure else None,
        corrected=sure.corrected if sure and not more["too_few"] else None,
        embedding=asdict(identity),
        dropped={name: dict(getattr(side, "dropped", {})) for name, side in zip(SIDES, sides, strict=True)},
        **more,
    )
