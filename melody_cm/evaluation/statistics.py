"""What is kept of the embeddings of many clips, in memory and in a file; no clip adds to its size."""

import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from melody_cm.evaluation.clip_sample import MAX_CLIPS, ClipSample
from melody_cm.evaluation.group_sums import NUM_GROUPS, Gaussian, GroupSums
from melody_cm.storage import write_atomically

FORMAT = "melody_cm embedding statistics 1"
ARRAYS = ("clips", "frames", "sum", "outer", "sample")


def usable_clips(
    embeddings: Float[Tensor, "b l d"], clips: Sequence[str], width: int
) -> tuple[Float64[Tensor, "kept l d"], list[str], Counter[str]]:
    """The finite clips of a batch in float64, their ids, and how many were left out by reason.

    Raises:
        ValueError: another width than the embedding's, or another number of ids than of clips.
    """
    if embeddings.shape[-1] != width:
        raise ValueError(f"embeddings of width {embeddings.shape[-1]}, but the metric was made for width {width}")
    if len(clips) != len(embeddings):
        raise ValueError(f"{len(clips)} clip ids for {len(embeddings)} clips; give one id a clip")
    finite = embeddings.isfinite().flatten(1).all(1) & (embeddings.shape[1] > 0)
    reason = "not finite" if embeddings.shape[1] else "empty"
    kept = [clip for clip, good in zip(clips, finite.tolist(), strict=True) if good]
    lost = Counter({reason: len(clips) - len(kept)} if len(kept) < len(clips) else {})
    return embeddings[finite].double(), kept, lost


@dataclass
class EmbeddingStatistics:
    """One side of a comparison in one embedding: what Frechet and kernel distances need to know of it.

    Attributes:
        sums: for the Frechet distance; sample: for the kernel distance.
        dropped: clips that were left out, by reason; problems: one message for each where there is one.
    """

    sums: GroupSums
    sample: ClipSample
    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, width: int, num_groups: int = NUM_GROUPS, max_clips: int = MAX_CLIPS) -> "EmbeddingStatistics":
        """Statistics of nothing, for embeddings of that width."""
        return cls(GroupSums.empty(width, num_groups), ClipSample.empty(width, max_clips))

    def add(self, embeddings: Float[Tensor, "b l d"], clips: Sequence[str]) -> None:
        """Add clips by their ids; those that are not finite are left out and counted."""
        usable, ids, lost = usable_clips(embeddings.to(self.sums.sum.device), clips, self.width)
        self.sums.add(usable, ids)
        self.sample.add(usable, ids)
        self.dropped.update(lost)

    def drop(self, reason: str, problem: str = "") -> None:
        """Count a clip that never became an embedding."""
        self.dropped[reason] += 1
        self.problems += [problem] if problem else []

    def __add__(self, other: "EmbeddingStatistics") -> "EmbeddingStatistics":
        return EmbeddingStatistics(
            self.sums + other.sums,
            self.sample + other.sample,
            self.dropped + other.dropped,
            self.problems + other.problems,
        )

    @property
    def width(self) -> int:
        """d of the embedding."""
        return self.sums.sum.shape[1]

    @property
    def num_clips(self) -> int:
        """Usable clips."""
        return self.sums.num_clips

    def gaussian(self) -> Gaussian:
        """Mean and covariance of all frames."""
        return self.sums.gaussian()

    def save(self, path: Path, key: str) -> None:
        """Write an `.npz` file atomically; `key` says what the statistics are of."""
        sums, notes = (
            self.sums,
            {"format": FORMAT, "key": key, "dropped": dict(self.dropped), "problems": self.problems},
        )
        tensors = (sums.clips, sums.frames, sums.sum, sums.outer, self.sample.rows)
        arrays = {name: tensor.cpu().numpy() for name, tensor in zip(ARRAYS, tensors, strict=True)}
        write_arrays(path, {**arrays, "notes": np.array(json.dumps(notes))})

    @classmethod
    def load(cls, path: Path, width: int, key: str) -> "EmbeddingStatistics":
        """The statistics that `save` wrote.

        Raises:
            ValueError: the file is damaged, or of something else than `width` and `key` say.
        """
        arrays = read_arrays(path)
        try:
            notes = json.loads(str(arrays.pop("notes")))
            clips, frames, total, outer, rows = (torch.from_numpy(arrays[name]) for name in ARRAYS)
            found, dropped, problems = (notes["format"], notes["key"]), Counter(notes["dropped"]), notes["problems"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: no embedding statistics ({error!r}); remove it") from error
        if found != (FORMAT, key):
            raise ValueError(f"{path}: statistics of {found[1]!r}, but those of {key!r} are needed; remove it")
        if problem := _problem(clips, frames, total, outer, rows, width):
            raise ValueError(f"{path}: {problem}; remove it")
        return cls(GroupSums(clips, frames, total, outer), ClipSample(rows), dropped, problems)


def _problem(clips: Tensor, frames: Tensor, total: Tensor, outer: Tensor, rows: Tensor, width: int) -> str | None:
    """What keeps arrays from being statistics of that width."""
    groups = len(clips)
    shapes = [tuple(x.shape) for x in (frames, total, outer, rows[:1])]
    if shapes != [(groups,), (groups, width), (groups, width, width), (1, 1 + width)]:
        return f"its arrays have the shapes {shapes}, which do not fit width {width}"
    if [x.dtype for x in (clips, frames, total, outer, rows)] != 2 * [torch.int64] + 3 * [torch.float64]:
        return "its numbers are of other types"
    if not (total.isfinite().all() and outer.isfinite().all() and not rows.isnan().any()):
        return "its numbers are not finite"
    if (clips < 0).any() or (frames < clips).any():
        return "its counts are impossible"
    if not torch.allclose(outer, outer.mT, rtol=1e-9, atol=1e-9 * float(outer.abs().max())):
        return "its sums of outer products are not symmetric"
    return None


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an `.npz` file atomically."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, **arrays)

    write_atomically(Path(path), write)


def read_arrays(path: Path) -> dict[str, Any]:
    """All arrays of an `.npz` file; nothing in it is ever executed.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error}); make it again or remove it") from error
