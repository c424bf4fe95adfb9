"""How the clips of a row hang together, where they are long enough to be asked (MusicCM, section 3.3)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from melody_cm.evaluation import (
    EmbeddingStatistics,
    Judge,
    Score,
    chroma_agreement,
    diversity,
    segment_similarity,
    segment_vectors,
    tempo_agreement,
    waveform_seam_ratio,
)
from melody_cm.evaluation.coherence import Agreement
from melody_cm.interfaces import AudioEmbedding, Pipeline
from melody_cm.storage import hash_data

SEGMENT_SECONDS = 5.0  # The same in all comparisons, so that their numbers can be compared.
FEWEST_SEGMENTS = 3  # Of two, the neighbours are all the pairs.
Clips = Float[Tensor, "seeds prompts t"]


@dataclass
class Reference:
    """Real music in the space of one embedding."""

    embedding: AudioEmbedding
    statistics: EmbeddingStatistics

    @property
    def key(self) -> str:
        """A hash of what results in this space depend on."""
        return hash_data([str(self.embedding.identity), self.statistics.num_clips, self.statistics.sum.tolist()])

    def judge(self, prompts: Mapping[str, str] | None = None) -> Judge:
        """A new judge by this reference; prompts by clip id, as `Judge` takes them."""
        return Judge(self.embedding, self.statistics, prompts)

    @property
    def centre(self) -> Float[Tensor, " d"]:
        """The mean of all its frames: where directions are seen from, the same for all systems."""
        statistics = self.statistics
        return (statistics.sum.sum(0) / statistics.frames.sum()).float()


@dataclass(frozen=True)
class Coherence:
    """What can be asked of a row's clips.

    Attributes:
        joints: seconds at which the windows begin that a pipeline puts clips together from; empty where it knows none.
        segment_seconds: length of the segments that are compared; None for clips with fewer than three.
    """

    joints: list[float]
    segment_seconds: float | None

    @classmethod
    def of(cls, pipeline: Pipeline, seconds: float) -> "Coherence":
        """For clips of so many seconds."""
        windows = getattr(pipeline, "window_seconds", None)
        joints = windows(seconds)[1:] if windows is not None and seconds > pipeline.max_seconds else []
        return cls(joints, SEGMENT_SECONDS if seconds >= FEWEST_SEGMENTS * SEGMENT_SECONDS else None)

    @property
    def made_from(self) -> dict[str, object]:
        """What the scores depend on beside clips and references; nothing where there are no scores."""
        return {"coherence": asdict(self)} if self.joints or self.segment_seconds else {}

    def scores(self, clips: Clips, sample_rate: int, references: Sequence[Reference]) -> dict[str, Score]:
        """By metric key; the similarities of segments and of seeds are seen from the middle of the reference."""
        scores, seconds = {}, self.segment_seconds
        prompts = list(range(clips.shape[1])) * len(clips)
        every = [clip[None, None] for clip in clips.flatten(0, 1)]
        if self.joints:
            method = f"change at {len(self.joints)} joints over change elsewhere; Student's interval over prompts"
            ratios = [waveform_seam_ratio(clip, sample_rate, self.joints).item() for clip in every]
            scores["seam_ratio"] = Score.mean(ratios, method, prompts)
        if seconds is None:
            return scores
        for one in references:
            centre = one.centre
            alike = [segment_similarity(one.embedding, clip, sample_rate, seconds, centre) for clip in every]
            scores[f"segment_similarity_{one.embedding.name}"] = _agreement(alike, prompts, seconds, one)
            if len(clips) > 1:
                scores[f"diversity_{one.embedding.name}"] = _diversity(clips, sample_rate, one)
        for name, measure in (("tempo_agreement", tempo_agreement), ("chroma_agreement", chroma_agreement)):
            scores[name] = _agreement([measure(clip, sample_rate, seconds) for clip in every], prompts, seconds)
        return scores


def _diversity(clips: Clips, sample_rate: int, reference: Reference) -> Score:
    vectors = [segment_vectors(reference.embedding, prompt[:, None], sample_rate) for prompt in clips.unbind(1)]
    centre, seeds = reference.centre, len(clips)
    distances = [diversity(own, centre) for own in vectors]
    method = f"1 - mean cosine of {seeds} seeds of a prompt, mean over prompts; Student's interval"
    score = Score.mean(distances, method, range(len(distances)), embedding=asdict(reference.embedding.identity))
    lost = {reason: count * seeds for reason, count in score.dropped["generated"].items()}  # In clips, not prompts.
    return replace(score, n_generated=score.n_generated * seeds, dropped={**score.dropped, "generated": lost})


def _agreement(
    found: Sequence[Agreement], prompts: Sequence[int], seconds: float, reference: Reference | None = None
) -> Score:
    method = f"all pairs of {seconds:g} s segments, mean over clips; Student's interval over prompts"
    adjacent = torch.tensor([one.adjacent for one in found], dtype=torch.float64).nanmean().item()
    return Score.mean(
        [one.all_pairs for one in found],
        method,
        prompts,
        embedding=None if reference is None else asdict(reference.embedding.identity),
        details={} if math.isnan(adjacent) else {"adjacent": adjacent},
    )
