"""Metrics: how near generated music is to real music, and decoded audio to its target."""

from melody_cm.evaluation.clip_sample import ClipSample
from melody_cm.evaluation.coherence import (
    Agreement,
    chroma_agreement,
    diversity,
    seam_ratio,
    segment_similarity,
    segment_vectors,
    tempo_agreement,
    waveform_seam_ratio,
)
from melody_cm.evaluation.fadtk import read_fadtk, write_fadtk
from melody_cm.evaluation.forward_passes import (
    PassCounter,
    melody_passes,
    musiccm_passes,
    musiclm_passes,
    noise2music_passes,
)
from melody_cm.evaluation.frechet import FrechetDistance, clip_distance, frechet_distance, frechet_infinity
from melody_cm.evaluation.group_sums import Gaussian, GroupSums
from melody_cm.evaluation.judge import Judge
from melody_cm.evaluation.kernel import KernelDistance, kernel_distance
from melody_cm.evaluation.memorization import Memorization
from melody_cm.evaluation.reference_cache import cached_statistics
from melody_cm.evaluation.resampling import embed
from melody_cm.evaluation.retrieval import RetrievalRecall
from melody_cm.evaluation.score import REASONS, Score, refuse_unlike, unlike_n
from melody_cm.evaluation.si_snr import SISNR, SISNRImprovement, si_snr
from melody_cm.evaluation.statistics import EmbeddingStatistics
from melody_cm.evaluation.text_correlation import TextCorrelation
from melody_cm.evaluation.uncertainty import PairedComparison, compare_paired
from melody_cm.signal import resample

__all__ = [
    "REASONS",
    "SISNR",
    "Agreement",
    "ClipSample",
    "EmbeddingStatistics",
    "FrechetDistance",
    "Gaussian",
    "GroupSums",
    "Judge",
    "KernelDistance",
    "Memorization",
    "PairedComparison",
    "PassCounter",
    "RetrievalRecall",
    "SISNRImprovement",
    "Score",
    "TextCorrelation",
    "cached_statistics",
    "chroma_agreement",
    "clip_distance",
    "compare_paired",
    "diversity",
    "embed",
    "frechet_distance",
    "frechet_infinity",
    "kernel_distance",
    "melody_passes",
    "musiccm_passes",
    "musiclm_passes",
    "noise2music_passes",
    "read_fadtk",
    "refuse_unlike",
    "resample",
    "seam_ratio",
    "segment_similarity",
    "segment_vectors",
    "si_snr",
    "tempo_agreement",
    "unlike_n",
    "waveform_seam_ratio",
    "write_fadtk",
]
