"""Every measure that one embedding allows, side by side over the same clips."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation.frechet import FrechetDistance
from melody_cm.evaluation.group_sums import Gaussian
from melody_cm.evaluation.kernel import KernelDistance
from melody_cm.evaluation.memorization import Memorization
from melody_cm.evaluation.score import Score
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.evaluation.text_correlation import TextCorrelation
from melody_cm.interfaces import AudioEmbedding


def embeds_text(embedding: AudioEmbedding) -> bool:
    """Whether texts lie in the same space as the audio."""
    return hasattr(embedding, "embed_text")


def clip_vectors(frames: Float[Tensor, "b l d"]) -> Float[Tensor, "b d"]:
    """One vector a clip, the mean of its frames, whose direction is what a cosine compares."""
    return frames.float().mean(1)


def memorization(embedding: AudioEmbedding, frames: Iterable[Float[Tensor, "1 l d"]]) -> Memorization:
    """The memorization check of generated clips; what has no direction, like silence in some spaces, is left out."""
    vectors = [vector for vector in map(clip_vectors, frames) if vector.any()]
    return Memorization(embedding.identity, torch.cat([torch.zeros(0, embedding.width), *vectors]))


class Judge:
    """`fad_<name>`, `kad_<name>`, the Frechet distance of every clip, and, with prompts, `text_correlation_<name>`.

    The reference comes first. Without two clips on each side there is no kernel distance. The jackknife leaves out
    whole pieces, because clips of one piece resemble each other.

    Args:
        embedding: the space of all measures.
        prompts: the prompt of every generated clip by its id; only of use where the embedding embeds texts.

    Attributes:
        songs: the Frechet distance of every generated clip; similarities: the cosine of each to its prompt.
    """

    def __init__(self, embedding: AudioEmbedding, prompts: Mapping[str, str] | None = None) -> None:
        self.embedding = embedding
        self.prompts = prompts if prompts and embeds_text(embedding) else None
        self.frechet = FrechetDistance(embedding.identity)
        self.kernel: KernelDistance | None = KernelDistance(embedding.identity)
        self.text = TextCorrelation(embedding.identity)
        self.songs: dict[str, float] = {}
        self.similarities: dict[str, float] = {}

    def reference(self, statistics: EmbeddingStatistics | Gaussian) -> None:
        """What to compare with; a Gaussian of another program has no clips for a kernel distance."""
        self.frechet.reference(statistics)
        if self.kernel is not None and isinstance(statistics, EmbeddingStatistics) and statistics.num_clips > 1:
            self.kernel.reference(statistics)
        else:
            self.kernel = None

    def add(self, frames: Float[Tensor, "b l d"], clips: Sequence[str], pieces: Sequence[str]) -> None:
        """Generated clips with their ids, and with the ids of the pieces that they belong to."""
        self.frechet.update(frames, real=False, clips=pieces)
        if self.kernel is not None:
            self.kernel.update(frames, real=False, clips=pieces)
        if frames.shape[1] > 1:
            self.songs |= dict(zip(clips, self.frechet.per_clip(frames).tolist(), strict=True))
        if self.prompts:
            with torch.no_grad():
                text = self.embedding.embed_text([self.prompts[clip] for clip in clips])
            audio = clip_vectors(frames)
            self.text.update(text.cpu(), audio)
            cosines = torch.nn.functional.cosine_similarity(text.cpu(), audio)
            self.similarities |= dict(zip(clips, cosines.tolist(), strict=True))

    def drop(self, reason: str) -> None:
        """A generated clip that could not be used."""
        self.frechet.drop(reason, real=False)
        if self.kernel is not None:
            self.kernel.drop(reason, real=False)
        self.text.drop(reason)

    def scores(self) -> dict[str, Score]:
        """By metric key."""
        name = self.embedding.name
        scores = {f"fad_{name}": self.frechet.compute()}
        if self.kernel is not None and scores[f"fad_{name}"].n_generated > 1:
            scores[f"kad_{name}"] = self.kernel.compute()
        if self.prompts:
            scores[f"text_correlation_{name}"] = self.text.compute()
        return scores
