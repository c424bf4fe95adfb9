"""What is kept of the embeddings of many clips: sums by group, and a sample; no clip adds to its size."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, distributed

NUM_GROUPS = 20
MAX_CLIPS = 2048


class Gaussian(NamedTuple):
    """A mean (d,) and a covariance (d, d)."""

    mean: Float64[Tensor, " d"]
    cov: Float64[Tensor, "d d"]


def clip_key(clip: str) -> int:
    """A number below 2^53 that depends on the clip's id alone, so that every process puts it in the same group."""
    digest = hashlib.blake2b(clip.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 11


@dataclass
class EmbeddingStatistics:
    """One side of a comparison in one embedding: what Frechet and kernel distances need to know of it.

    Clips fall into groups by a hash of their id; float64 sums over the frames of each group are all that means,
    covariances and their uncertainty need. Frames of one clip are not independent, so what is left out or drawn
    together is always whole clips. The sample holds the mean embeddings of the clips whose ids hash lowest, whatever
    came first and wherever.

    Attributes:
        clips, frames: (g,) how many of each group.
        sum: (g, d) of the frames; outer: (g, d, d) of their outer products.
        sample: (k, e) with e = 1 + d: a clip's hash, or infinity where a row is free, and its mean embedding.
        dropped: of the clips that were left out, a message each by reason; "" where nothing more is known.
    """

    clips: Int64[Tensor, " g"]
    frames: Int64[Tensor, " g"]
    sum: Float64[Tensor, "g d"]
    outer: Float64[Tensor, "g d d"]
    sample: Float64[Tensor, "k e"]
    dropped: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, width: int, num_groups: int = NUM_GROUPS, max_clips: int = MAX_CLIPS, device: torch.device | None = None
    ) -> "EmbeddingStatistics":
        """Statistics of nothing, for embeddings of that width."""
        counts = torch.zeros(num_groups, dtype=torch.int64, device=device)
        zeros = torch.zeros(num_groups, width, dtype=torch.float64, device=device)
        sample = torch.full((max_clips, 1 + width), torch.inf, dtype=torch.float64, device=device)
        return cls(counts, counts.clone(), zeros, zeros[:, :, None].expand(-1, -1, width).clone(), sample)

    def add(self, embeddings: Float[Tensor, "b l d"], clips: Sequence[str]) -> None:
        """Add clips; those that are not finite, or have no frame, are left out and counted.

        Args:
            embeddings: of the width of the statistics.
            clips: one id a clip, the same on every process; clips of one id (pieces of one song) are left out together.
        """
        usable = embeddings.isfinite().flatten(1).all(1) & (embeddings.shape[1] > 0)
        lost = int((~usable).sum())
        self.drop("not finite" if embeddings.shape[1] else "empty", count=lost)
        keys = [clip_key(clip) for clip, good in zip(clips, usable.tolist(), strict=True) if good]
        self._add_sums(embeddings[usable].to(self.sum), torch.tensor(keys, dtype=torch.int64))
        self._add_to_sample(embeddings[usable].to(self.sum).mean(1), keys)

    def _add_sums(self, embeddings: Float64[Tensor, "b l d"], keys: Int64[Tensor, " b"]) -> None:
        groups = (keys % len(self.clips)).to(self.sum.device)
        for group in groups.unique().tolist():
            rows = embeddings[groups == group]
            frames = rows.flatten(0, 1)
            self.clips[group] += len(rows)
            self.frames[group] += len(frames)
            self.sum[group] += frames.sum(0)
            self.outer[group].addmm_(frames.T, frames)

    def _add_to_sample(self, means: Float64[Tensor, "b d"], keys: Sequence[int]) -> None:
        """Each clip takes a free row, or that of the highest hash if its own is lower."""
        for key, mean in zip(keys, means, strict=True):
            highest = int(self.sample[:, 0].argmax())
            if key < self.sample[highest, 0]:
                self.sample[highest, 0], self.sample[highest, 1:] = key, mean

    def drop(self, reason: str, message: str = "", count: int = 1) -> None:
        """Count clips that never became an embedding."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, []) + [message] * count

    def num_dropped(self) -> dict[str, int]:
        """Clips that were left out, by reason."""
        return {reason: len(messages) for reason, messages in self.dropped.items()}

    def over_processes(self) -> "EmbeddingStatistics":
        """The statistics of all processes together, in main memory; each of them must ask."""
        tensors = [self.clips, self.frames, self.sum, self.outer, self.sample]
        dropped = [self.dropped]
        if distributed.is_available() and distributed.is_initialized():
            tensors = [tensor.clone() for tensor in tensors]
            for tensor in tensors[:4]:
                distributed.all_reduce(tensor)
            samples = [torch.empty_like(self.sample) for _ in range(distributed.get_world_size())]
            distributed.all_gather(samples, self.sample)
            tensors[4] = lowest(torch.cat(samples), len(self.sample))
            dropped *= len(samples)
            distributed.all_gather_object(dropped, self.dropped)
        reasons = dict.fromkeys(reason for one in dropped for reason in one)
        together = {reason: [line for one in dropped for line in one.get(reason, [])] for reason in reasons}
        return EmbeddingStatistics(*(x.cpu() for x in tensors), together)

    @property
    def width(self) -> int:
        """d of the embedding."""
        return self.sum.shape[1]

    @property
    def num_clips(self) -> int:
        """Usable clips."""
        return int(self.clips.sum())

    @property
    def num_pieces(self) -> int:
        """Different ids of usable clips: prompts, pieces. Of more clips than the sample holds it is estimated."""
        keys = self.sample[:, 0][self.sample[:, 0].isfinite()]
        return round(len(keys.unique()) * self.num_clips / max(len(keys), 1))

    @property
    def num_frames(self) -> int:
        """Of all usable clips."""
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

    def vectors(self) -> tuple[Float64[Tensor, "n d"], Int64[Tensor, " n"]]:
        """The mean embeddings of the sampled clips and the clips' hashes, in order of the hashes."""
        rows = lowest(self.sample[self.sample[:, 0].isfinite()])
        return rows[:, 1:], rows[:, 0].long()


def lowest(rows: Float64[Tensor, "n e"], count: int | None = None) -> Float64[Tensor, "k e"]:
    """The rows in order of their first numbers, at most `count`."""
    return rows[rows[:, 0].argsort(stable=True)[:count]]
