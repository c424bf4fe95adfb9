"""A sample of clips of bounded size that is the same in any order and over any number of processes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from melody_cm.evaluation.group_sums import clip_key

MAX_CLIPS = 2048


@dataclass
class ClipSample:
    """Mean embeddings of at most k clips: those whose ids hash lowest, whatever came first and wherever.

    rows: (k, e) float64 with e = 1 + d: the clip's hash, or infinity where a row is free, and its mean embedding.
    """

    rows: Float64[Tensor, "k e"]

    @classmethod
    def empty(cls, width: int, max_clips: int = MAX_CLIPS) -> "ClipSample":
        """A sample of nothing."""
        return cls(torch.full((max_clips, 1 + width), torch.inf, dtype=torch.float64))

    def add(self, embeddings: Float64[Tensor, "b l d"], clips: Sequence[str]) -> None:
        """Add clips, in place: each takes a free row, or that of the highest hash if its own is lower."""
        means = embeddings.mean(1).to(self.rows)
        for clip, mean in zip(clips, means, strict=True):
            highest, key = int(self.rows[:, 0].argmax()), clip_key(clip)
            if key < self.rows[highest, 0]:
                self.rows[highest, 0], self.rows[highest, 1:] = key, mean

    def __add__(self, other: "ClipSample") -> "ClipSample":
        return ClipSample(lowest(torch.stack([self.rows, other.rows])))

    def vectors(self) -> tuple[Float64[Tensor, "n d"], Int64[Tensor, " n"]]:
        """The mean embeddings and the clips' hashes, in order of the hashes."""
        rows = self.rows[self.rows[:, 0].isfinite()].cpu()
        rows = rows[rows[:, 0].argsort(stable=True)]
        return rows[:, 1:], rows[:, 0].long()


def lowest(samples: Float64[Tensor, "processes k e"]) -> Float64[Tensor, "k e"]:
    """The rows (k, 1 + d) of the lowest hashes in all samples (processes, k, 1 + d)."""
    rows = samples.flatten(0, 1)
    return rows[rows[:, 0].argsort(stable=True)[: samples.shape[1]]]
