"""What all metrics here share: states that sum over processes, and an account of the clips that were left out."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from melody_cm.evaluation.score import REASONS, SIDES


class CountingMetric(Metric):
    """A metric that counts, for each side and reason, the clips that it could not use."""

    full_state_update = False
    dropped: Tensor

    def __init__(self) -> None:
        # A cached result would miss what `drop` counts after it.
        super().__init__(compute_with_cache=False)
        self.add_sum("dropped", (len(SIDES), len(REASONS)), torch.int64)

    def add_sum(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        """A state of zeros that sums over processes."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def drop(self, reason: str, real: bool = False, count: int = 1) -> None:
        """Count clips that never reach `update`; a reason that is not in `REASONS` counts as "other"."""
        column = REASONS.index(reason if reason in REASONS else "other")
        self.dropped[int(real), column] += count

    def drop_all(self, counts: Mapping[str, int], real: bool) -> None:
        """Count clips by reason."""
        for reason, count in counts.items():
            self.drop(reason, real, count)

    def dropped_counts(self, known: Mapping[str, int] | None = None) -> dict[str, dict[str, int]]:
        """The clips left out, by side and reason; `known` were left out of a reference that was made before."""
        rows: list[Any] = self.dropped.tolist()
        counts = {
            side: {reason: count for reason, count in zip(REASONS, row, strict=True) if count}
            for side, row in zip(SIDES, rows, strict=True)
        }
        return {**counts, "reference": dict(Counter(counts["reference"]) + Counter(known or {}))}
