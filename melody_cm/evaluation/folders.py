"""Generated against real sound files: all measures of all embeddings, clip by clip."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import Progress

from melody_cm.data import Clip
from melody_cm.data.synthetic import cache_folder
from melody_cm.evaluation.corpora import Dropped, embed_clips
from melody_cm.evaluation.fadtk import read_fadtk
from melody_cm.evaluation.group_sums import Gaussian
from melody_cm.evaluation.judge import Judge, clip_vectors, embeds_text, memorization
from melody_cm.evaluation.reference_cache import cached_statistics
from melody_cm.evaluation.results import SCHEMA_VERSION
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.interfaces import AudioEmbedding
from melody_cm.storage.hashing import hash_data, hash_file


@dataclass
class Sides:
    """What is judged (with its prompts by clip id, if known), by which music, and what its makers learned from.

    The reference may be a file of fadtk statistics (`.npz`) instead of clips.
    """

    generated: Sequence[Clip]
    reference: Sequence[Clip] | Path
    prompts: Mapping[str, str] | None = None
    training: Sequence[Clip] | None = None

    @cached_property
    def reference_fingerprint(self) -> str:
        """A hash of the content of the reference; distances to unlike references must not be compared."""
        if isinstance(self.reference, Path):
            return hash_file(self.reference)
        return hash_data(sorted([_file_hash(clip), clip.start, clip.duration or 0.0] for clip in self.reference))


def _file_hash(clip: Clip) -> str:
    return hash_file(clip.audio) if clip.audio.is_file() else "missing"


def evaluate_folders(sides: Sides, embeddings: Sequence[AudioEmbedding], progress: Progress) -> dict[str, Any]:
    """The content of results.json: schema_version, metadata, metrics, songs, dropped (docs/evaluation.md).

    Raises:
        ValueError: prompts or training music without an embedding that can use them, or a side without a usable clip.
    """
    refuse_unusable(sides, embeddings)
    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "metadata": {
            "embeddings": {embedding.name: asdict(embedding.identity) for embedding in embeddings},
            "reference_fingerprint": sides.reference_fingerprint,
        },
        "metrics": {},
        "songs": {},
        "dropped": {},
    }
    for embedding in embeddings:
        evaluation = _Evaluation(sides, embedding, progress)
        results["metrics"] |= {key: score.as_dict() for key, score in evaluation.run().items()}
        results["songs"][f"fad_{embedding.name}"] = evaluation.judge.songs
        results["dropped"][embedding.name] = evaluation.dropped
    return results


def refuse_unusable(sides: Sides, embeddings: Sequence[AudioEmbedding]) -> None:
    """Refuse, before any work, what no embedding can answer."""
    names = ", ".join(embedding.name for embedding in embeddings)
    if sides.prompts and not any(embeds_text(embedding) for embedding in embeddings):
        raise ValueError(f"prompts need an embedding of texts too, not only {names}; add joint:STAGE or clap:FOLDER")
    if sides.training and not any(embedding.identity.trained for embedding in embeddings):
        raise ValueError(f"the memorization check needs a trained embedding, not only {names}; add e.g. joint:STAGE")


class _Evaluation:
    """One embedding's run over all sides."""

    def __init__(self, sides: Sides, embedding: AudioEmbedding, progress: Progress) -> None:
        self.sides, self.embedding, self.progress = sides, embedding, progress
        self.judge = Judge(embedding, sides.prompts)
        self.dropped: dict[str, dict[str, list[str]]] = {}
        self.vectors: list[torch.Tensor] = []

    def run(self) -> dict[str, Score]:
        """All scores by key."""
        self.judge.reference(self.reference())
        generated: list[Dropped] = []
        for clip, frames in self.hear("generated", self.sides.generated, generated.append):
            self.judge.add(frames, [clip.id], [clip.piece])
            if self.sides.training and self.embedding.identity.trained:
                self.vectors.append(clip_vectors(frames)[:, None])
        for one in generated:
            self.judge.drop(one.reason)
        self.dropped["generated"] = by_reason(one.line() for one in generated)
        return self.judge.scores() | (self.memorization() if self.vectors else {})

    def reference(self) -> EmbeddingStatistics | Gaussian:
        """The reference's statistics: read, from the cache, or computed now."""
        if isinstance(self.sides.reference, Path):
            return read_fadtk(self.sides.reference)
        identity, folder = self.embedding.identity, cache_folder() / "evaluation"
        statistics = cached_statistics(identity, self.sides.reference, self.reference_statistics, folder)
        self.dropped["reference"] = by_reason(statistics.problems)
        return statistics

    def reference_statistics(self) -> EmbeddingStatistics:
        """The sums over the reference's clips, with what was left out."""
        statistics = EmbeddingStatistics.empty(self.embedding.width)

        def drop(one: Dropped) -> None:
            statistics.drop(one.reason, one.line())

        for clip, frames in self.hear("reference", self.sides.reference, drop):
            statistics.add(frames, [clip.piece])
        return statistics

    def memorization(self) -> dict[str, Score]:
        """How many generated clips nearly equal a training clip."""
        check = memorization(self.embedding, self.vectors)
        training: list[Dropped] = []
        for clip, frames in self.hear("training", self.sides.training, training.append):
            check.update(clip_vectors(frames), [clip.id])
        self.dropped["training"] = by_reason(one.line() for one in training)
        return {f"{key}_{self.embedding.name}": score for key, score in check.compute().items()}

    def hear(
        self, side: str, clips: Any, on_drop: Callable[[Dropped], Any]
    ) -> Iterator[tuple[Clip, Float[torch.Tensor, "1 l d"]]]:
        """The embeddings of one side's usable clips, with a progress bar.

        Raises:
            ValueError: no clip of the side is usable.
        """
        task = self.progress.add_task(f"{self.embedding.name}, {side}", total=len(clips))
        first: list[Dropped] = []
        used = 0

        def drop(one: Dropped) -> None:
            first[:] = first or [one]
            on_drop(one)

        for pair in embed_clips(clips, self.embedding, drop, lambda: self.progress.advance(task)):
            used += 1
            yield pair
        if not used:
            raise ValueError(f"none of the {len(clips)} {side} clips is usable; the first: {first[0].message}")


def by_reason(lines: Iterable[str]) -> dict[str, list[str]]:
    """The messages of `Dropped.line` by reason."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        reason, _, message = line.partition(": ")
        reasons.setdefault(reason, []).append(message)
    return reasons
