"""Sums of embeddings by group of clips: all that means and covariances, and their uncertainty, need."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

NUM_GROUPS = 20


class Gaussian(NamedTuple):
    """A mean (d,) and a covariance (d, d)."""

    mean: Float64[Tensor, " d"]
    cov: Float64[Tensor, "d d"]


def clip_key(clip: str) -> int:
    """A number below 2^53 that depends on the clip's id alone, so that every process puts it in the same group."""
    return int.from_bytes(hashlib.blake2b(clip.encode(), digest_size=8).digest(), "little") >> 11


@dataclass
class GroupSums:
    """float64 sums over the frames of each group of clips; clips fall into groups by a hash of their id.

    Frames of one clip are not independent, so what is left out or drawn together is always whole clips.

    Attributes:
        clips, frames: (g,) how many.
        sum: (g, d) of the frames; outer: (g, d, d) of their outer products.
    """

    clips: Int64[Tensor, " g"]
    frames: Int64[Tensor, " g"]
    sum: Float64[Tensor, "g d"]
    outer: Float64[Tensor, "g d d"]

    @classmethod
    def empty(cls, width: int, num_groups: int = NUM_GROUPS) -> "GroupSums":
        """Sums of nothing."""
        counts = torch.zeros(num_groups, dtype=torch.int64)
        zeros = torch.zeros(num_groups, width, dtype=torch.float64)
        return cls(counts, counts.clone(), zeros, zeros[:, :, None].expand(-1, -1, width).clone())

    def add(self, embeddings: Float64[Tensor, "b l d"], clips: Sequence[str]) -> None:
        """Add clips, in place."""
        groups = torch.tensor([clip_key(clip) % len(self.clips) for clip in clips])
        for group in groups.unique().tolist():
            rows = embeddings[(groups == group).to(embeddings.device)]
            frames = rows.flatten(0, 1).to(self.sum)
            self.clips[group] += len(rows)
            self.frames[group] += len(frames)
            self.sum[group] += frames.sum(0)
            self.outer[group].addmm_(frames.T, frames)

    def __add__(self, other: "GroupSums") -> "GroupSums":
        return GroupSums(
            self.clips + other.clips, self.frames + other.frames, self.sum + other.sum, self.outer + other.outer
        )

    def cpu(self) -> "GroupSums":
        """The same sums in main memory."""
        return GroupSums(self.clips.cpu(), self.frames.cpu(), self.sum.cpu(), self.outer.cpu())

    @property
    def num_clips(self) -> int:
        """In all groups."""
        return int(self.clips.sum())

    @property
    def num_frames(self) -> int:
        """In all groups."""
        return int(self.frames.sum())

    def filled(self) -> list[int]:
        """The groups that hold a clip."""
        return self.clips.nonzero()[:, 0].tolist()

    def gaussian(self, keep: Bool[Tensor, " g"] | None = None) -> Gaussian:
        """Mean and unbiased covariance of the frames, or of those in the groups to `keep`.

        Raises:
            ValueError: there are fewer than two frames.
        """
        weights = (torch.ones_like(self.clips) if keep is None else keep).double()
        frames = int((weights * self.frames).sum())
        if frames < 2:
            raise ValueError(f"{frames} usable frame(s), but a covariance needs at least 2; add clips")
        mean = weights @ self.sum / frames
        outer = (weights @ self.outer.flatten(1)).view_as(self.outer[0])
        cov = (outer - frames * torch.outer(mean, mean)) / (frames - 1)
        return Gaussian(mean, (cov + cov.T) / 2)

    def without(self, group: int) -> Gaussian:
        """Mean and covariance of all other groups."""
        return self.gaussian(torch.arange(len(self.clips)) != group)
